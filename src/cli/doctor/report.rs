//! What was found, printed as it is found.

/// Findings so far.
#[derive(Debug, Default)]
pub(super) struct Report {
    fine: usize,
    skipped: usize,
    doubts: usize,
    faults: usize,
}

/// Worth knowing, and neither good nor bad.
pub(super) fn note(subject: &str, what: &str) {
    line(subject, "", what);
}

impl Report {
    /// As it should be.
    pub(super) fn fine(&mut self, subject: &str, what: &str) {
        self.fine += 1;
        line(subject, "ok", what);
    }

    /// Was not looked at, and why.
    pub(super) fn skipped(&mut self, subject: &str, why: &str) {
        self.skipped += 1;
        line(subject, "skipped", why);
    }

    /// Works perhaps, and is perhaps not what was meant.
    pub(super) fn doubt(&mut self, subject: &str, what: &str, fix: &str) {
        self.doubts += 1;
        line(subject, "doubt", what);
        line("", "", &format!("fix: {fix}"));
    }

    /// Does not work.
    pub(super) fn fault(&mut self, subject: &str, what: &str, fix: &str) {
        self.faults += 1;
        line(subject, "FAULT", what);
        line("", "", &format!("fix: {fix}"));
    }

    /// The last line.
    ///
    /// # Errors
    /// There are faults.
    pub(super) fn conclude(self) -> Result<(), String> {
        let Self {
            fine,
            skipped,
            doubts,
            faults,
        } = self;
        println!("ok: {fine}, skipped: {skipped}, doubts: {doubts}, faults: {faults}");
        match faults {
            0 => Ok(()),
            1 => Err("there is a fault".to_owned()),
            faults => Err(format!("there are {faults} faults")),
        }
    }
}

fn line(subject: &str, verdict: &str, text: &str) {
    println!("{subject:<11} {verdict:<8} {text}");
}
