//! The master on which a rotation of the service accounts' key runs.

use anyhow::{Context as _, Result};

use super::{Change, Files, Node};
use crate::enroll::Joining;
use crate::install::Machine;
use crate::language::tr;
use crate::paths::{NEXT_SERVICE_ACCOUNT, SERVICE_ACCOUNT_PRIVATE, SERVICE_ACCOUNT_PUBLIC};
use crate::pki::Secret;
use crate::plan::{Plan, Step};
use crate::records::run::RENEW;
use crate::rotate::files::{public, secret};
use crate::rotate::here::{readers, refuse_other_changes, until_running, until_up};

/// This machine.
pub struct Here<'a>(pub &'a Machine);

impl Here<'_> {
    fn read(&self, path: &str) -> Result<Option<Vec<u8>>> {
        let bytes = self.0.root.read(path)?;
        Ok(bytes.filter(|bytes| !bytes.is_empty()))
    }

    fn existing(&self, path: &str) -> Result<Vec<u8>> {
        let bytes = self.read(path)?;
        bytes.with_context(|| tr!("{path} is missing; run `appliance install`", path))
    }
}

impl Node for Here<'_> {
    fn files(&self) -> Result<Files> {
        let public = String::from_utf8(self.existing(SERVICE_ACCOUNT_PUBLIC)?);
        Ok(Files {
            key: Secret::new(self.existing(SERVICE_ACCOUNT_PRIVATE)?),
            public: public.context(SERVICE_ACCOUNT_PUBLIC)?,
            next: self.read(NEXT_SERVICE_ACCOUNT)?.map(Secret::new),
        })
    }

    fn change(&self, change: Change) -> Result<()> {
        let step = match change {
            Change::Next(key) => secret(NEXT_SERVICE_ACCOUNT, key),
            Change::Key(key) => secret(SERVICE_ACCOUNT_PRIVATE, key),
            Change::Public(text) => public(SERVICE_ACCOUNT_PUBLIC, text),
            Change::Forget => Step::RemoveFile(NEXT_SERVICE_ACCOUNT),
        };
        self.0.take_down(&Plan { steps: vec![step] }, None)
    }

    fn start(&self) -> Result<()> {
        const FILES: [&str; 2] = [SERVICE_ACCOUNT_PUBLIC, SERVICE_ACCOUNT_PRIVATE];
        let machine = self.0;
        let planned = machine.plan(&machine.identity(Joining::Pretended)?)?;
        let readers = readers(machine, &FILES);
        let planned = planned.only(|plan| plan.of_file(SERVICE_ACCOUNT_PUBLIC, &readers));
        machine.apply(&planned, RENEW)?;
        if machine.root.is_live() {
            until_up(machine.runner)?;
            until_running(machine.runner, "kube-controller-manager")?;
        }
        Ok(())
    }

    fn refuse_other_changes(&self) -> Result<()> {
        refuse_other_changes(self.0, "keys")
    }
}
