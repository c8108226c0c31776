//! Clients, which count the requests that a service answers, and those that it loses.

use appliance_vm::machine::Machine;

use crate::vms::Bed;

/// Asks until it is stopped, and notes each answer and each loss: no connection, no answer within ten seconds, or another
/// one. It never asks twice for one request. Of a loss, it notes when the request began and ended, and what it got.
const CLIENT: &str = r#"
while [ ! -e /run/client-stop ]; do
    begin=$(date +%T.%3N)
    got=$(timeout 10 bash -c 'exec 3<>/dev/tcp/ADDRESS/PORT; printf "GET / HTTP/1.0\r\nHost: a\r\n\r\n" >&3; cat <&3' 2>&1)
    code=$?
    case $got in
        *api-gateway-zuul*) echo yes ;;
        *) echo "no $begin to $(date +%T.%3N), code $code: $(echo "$got" | tr -d '\r' | tr '\n' ' ')" ;;
    esac >>/var/tmp/client
    sleep 0.2
done
"#;

/// One client: the VM on which it runs.
pub struct Client {
    at: &'static str,
}

impl Client {
    /// Starts one that asks the service at this address, and waits until it has got some answers.
    pub fn start(bed: &mut Bed, at: &'static str, address: &str, port: u16) -> Client {
        let client = CLIENT.replace("ADDRESS", address);
        let client = client.replace("PORT", &port.to_string());
        let start = format!(
            "cat >/run/client.sh <<'END'\n{client}END\n: >/var/tmp/client; \
             systemd-run --unit=client /bin/sh /run/client.sh"
        );
        bed.shell(at, &start);
        bed.wait_at(at, "the service answers", |machine| {
            let said = machine.shell("tail -n 3 /var/tmp/client");
            said.is_ok_and(|said| said == "yes\nyes\nyes\n")
        });
        bed.shell(at, ": >/var/tmp/client");
        Client { at }
    }

    /// How many requests were answered so far, and when others were lost.
    pub fn asked(&self, bed: &mut Bed) -> (usize, Vec<String>) {
        let said = bed.shell(self.at, "cat /var/tmp/client");
        let answered = said.lines().filter(|line| *line == "yes").count();
        let lost = said.lines().filter_map(|line| line.strip_prefix("no "));
        (answered, lost.map(str::to_owned).collect())
    }

    /// Ends it after its current request, and returns the same.
    pub fn stop(&self, bed: &mut Bed) -> (usize, Vec<String>) {
        bed.shell(self.at, "touch /run/client-stop");
        bed.wait_at(self.at, "the client ends", |machine: &mut Machine| {
            machine.shell("systemctl is-active client").is_err()
        });
        self.asked(bed)
    }
}
