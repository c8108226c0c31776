//! The last part of the help page of `timeline`.

pub const TIMELINE: &str = "\
Examples:
  appliance timeline
  appliance timeline --file bring-up.svg
  # the slowest steps
  appliance timeline -o json |
    jq -r '.rows | map(select(.end)) | sort_by(.begin - .end)[:5][].what'

Exit codes: 0 done; 4 no bring-up is recorded here.

More: appliance help timeline";
