//! What people see while the demo runs: one line a step, with the time it took, and what was found below it.

use std::{
    fmt::Display,
    io::{IsTerminal, Write, stdout},
    time::Instant,
};

/// Where the demo speaks: stdout, in colours only on a terminal.
#[derive(Debug)]
pub struct Stage {
    colours: bool,
    step: usize,
    steps: usize,
    begun: Instant,
}

impl Stage {
    /// A stage for so many steps.
    pub fn new(steps: usize) -> Self {
        let colours = stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self { colours, step: 0, steps, begun: Instant::now() }
    }

    /// A step begins: says so at once.
    pub fn step(&mut self, what: &str) {
        self.step += 1;
        self.begun = Instant::now();
        print!("[{}/{}] {what} ... ", self.step, self.steps);
        let _ = stdout().flush();
    }

    /// It ended well.
    pub fn ok(&self) {
        println!("{} ({:.1} s)", self.paint("32", "ok"), self.begun.elapsed().as_secs_f64());
    }

    /// It ended otherwise than expected.
    pub fn wrong(&self) {
        println!("{} ({:.1} s)", self.paint("31", "not as expected"), self.begun.elapsed().as_secs_f64());
    }

    /// What was found, below the step.
    pub fn show(&self, text: impl Display) {
        for line in text.to_string().lines() {
            println!("    {line}");
        }
    }

    /// A word in a colour, if there are colours.
    pub fn paint(&self, colour: &str, text: &str) -> String {
        if self.colours { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_owned() }
    }
}
