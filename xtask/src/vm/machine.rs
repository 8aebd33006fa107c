//! One boot of a kernel under QEMU, and what the machine said.
//!
//! Emulated (TCG), so that it works where virtual machines cannot be nested. The kernel's messages go to a file; the job
//! writes to a second serial port, where frames that only this run can know (a random word) tell its parts apart.

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::debian::Kernel;
use super::job::{self, Job};

/// How to boot.
pub(super) struct Boot<'a> {
    pub(super) kernel: &'a Kernel,
    pub(super) root: &'a Path,
    /// Whether the kernel asks BPF programs as a security module.
    pub(super) lsm: bool,
    /// systemd as the init, instead of a script.
    pub(super) systemd: bool,
    /// How long the machine may live.
    pub(super) limit: Duration,
    /// MiB.
    pub(super) memory: u32,
}

/// What one step of the job said and how it ended.
pub(super) struct Outcome {
    pub(super) step: String,
    pub(super) output: String,
    /// The exit status, as a shell gives it.
    pub(super) status: i32,
}

/// Security modules of Debian's kernels that do not get in the way of tests, in Debian's order.
const MODULES: &str = "landlock,lockdown,yama,loadpin,safesetid,integrity,apparmor";

/// Boots, runs the job, and gives what each step said. `tell` gets the step and every line of it as it comes.
pub(super) fn run(
    boot: &Boot<'_>,
    job: &Job,
    work: &Path,
    tell: &dyn Fn(&str, &str),
) -> Result<Vec<Outcome>> {
    let work = tempfile::Builder::new().prefix("boot-").tempdir_in(work)?;
    let word = job::random_word()?;
    let initramfs = work.path().join("initramfs");
    concatenate(
        boot,
        &job.archive(work.path(), &word, boot.systemd, boot.lsm)?,
        &initramfs,
    )?;
    let console = work.path().join("console");
    let mut machine = Machine(start(boot, &initramfs, &console)?);
    let frames = read_frames(&mut machine.0, &word, boot.limit, tell);
    // However it went: the process is this one's own, and not needed any more.
    drop(machine);
    frames.map_err(|error| {
        let tier = if boot.lsm { "-lsm" } else { "" };
        let name = format!("console-{}{tier}.log", boot.kernel.release);
        let kept = keep(
            &console,
            work.path().parent().unwrap_or(Path::new(".")).join(name),
        );
        error.context(format!(
            "the last that the kernel said (all of it in {kept}):\n{}",
            tail(&console)
        ))
    })
}

/// QEMU. Ended when this is dropped.
struct Machine(Child);

impl Drop for Machine {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _status = self.0.wait();
    }
}

fn concatenate(boot: &Boot<'_>, job: &Path, to: &Path) -> Result<()> {
    let mut out = File::create(to)?;
    for part in [boot.root, &boot.kernel.modules, job] {
        let mut part = File::open(part).with_context(|| format!("open {}", part.display()))?;
        io::copy(&mut part, &mut out)?;
    }
    out.flush().context("write the initramfs")
}

fn start(boot: &Boot<'_>, initramfs: &Path, console: &Path) -> Result<Child> {
    let bpf = if boot.lsm { ",bpf" } else { "" };
    let init = job::INIT;
    // A panic ends the machine, and a processor that hangs is one, with its stack on the console. Mitigations cost
    // emulated machines much and say nothing of Tollgate.
    let line = format!(
        "console=ttyS0 loglevel=5 rdinit={init} panic=-1 softlockup_panic=1 watchdog_thresh=60 mitigations=off lsm={MODULES}{bpf} \
         systemd.show_status=1 systemd.mask=serial-getty@ttyS0.service systemd.mask=getty@tty1.service \
         systemd.mask=systemd-binfmt.service systemd.mask=proc-sys-fs-binfmt_misc.automount"
    );
    // The security hooks are on the kernel's busiest paths. When it changes the code there, an emulated processor in a thread
    // of its own now and then still meets the breakpoint that another has taken away again, and the kernel dies of it. One
    // processor would be too few: nobody waits for the agent there.
    let accelerator = if boot.lsm {
        "tcg,thread=single"
    } else {
        "tcg,thread=multi"
    };
    // A task that is killed cannot clean up.
    Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "--", "qemu-system-x86_64"])
        .args(["-accel", accelerator])
        // Five levels of page tables are slower than four, and nothing here needs them.
        .args(["-cpu", "max,la57=off", "-smp", "2", "-m"])
        .arg(boot.memory.to_string())
        .args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"])
        .args(["-nic", "none", "-kernel"])
        .arg(&boot.kernel.image)
        .arg("-initrd")
        .arg(initramfs)
        .args(["-append", &line, "-serial"])
        .arg(format!("file:{}", console.display()))
        .args(["-serial", "stdio"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .context("start qemu-system-x86_64")
}

fn read_frames(
    machine: &mut Child,
    word: &str,
    limit: Duration,
    tell: &dyn Fn(&str, &str),
) -> Result<Vec<Outcome>> {
    let output = machine.stdout.take().context("QEMU's output is a pipe")?;
    let deadline = Instant::now() + limit;
    let (send, lines) = sync_channel(1024);
    // Ends with the pipe, so with the machine.
    std::thread::spawn(move || {
        for line in BufReader::new(output).split(b'\n') {
            let line = line.map(|bytes| String::from_utf8_lossy(&bytes).trim_end_matches('\r').to_owned());
            if line.is_err() || send.send(line).is_err() {
                return;
            }
        }
    });
    let mut frames = Frames::new(word);
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match lines.recv_timeout(left) {
            Ok(line) => {
                let line = line?;
                if let Some(said) = frames.line(&line)? {
                    tell(frames.step(), said);
                }
                if frames.done {
                    return Ok(frames.outcomes);
                }
            }
            Err(RecvTimeoutError::Timeout) => bail!(
                "the machine was ended after {} s, {}",
                limit.as_secs(),
                frames.place()
            ),
            Err(RecvTimeoutError::Disconnected) => {
                bail!("the machine ended by itself, {}", frames.place())
            }
        }
    }
}

/// Puts lines together to the outcomes of steps.
struct Frames<'a> {
    word: &'a str,
    outcomes: Vec<Outcome>,
    open: Option<(String, String)>,
    done: bool,
}

impl<'a> Frames<'a> {
    fn new(word: &'a str) -> Self {
        Self {
            word,
            outcomes: Vec::new(),
            open: None,
            done: false,
        }
    }

    /// Gives the line back if it is a step's own.
    fn line<'l>(&mut self, line: &'l str) -> Result<Option<&'l str>> {
        // A step may leave a line unfinished; the frame then stands in the middle of it.
        let Some((before, frame)) = line.split_once(self.word) else {
            if let Some((_, output)) = &mut self.open {
                output.push_str(line);
                output.push('\n');
            }
            return Ok(Some(line));
        };
        if let Some((_, output)) = self.open.as_mut().filter(|_| !before.is_empty()) {
            output.push_str(before);
            output.push('\n');
        }
        let words: Vec<&str> = frame.split_whitespace().collect();
        match (words.as_slice(), self.open.take()) {
            (["begin", step], None) => self.open = Some(((*step).to_owned(), String::new())),
            (["end", step, status], Some((open, output))) if open == *step => self.outcomes.push(Outcome {
                step: open,
                output,
                status: status.parse().context("a status is a number")?,
            }),
            (["done"], None) => self.done = true,
            _ => bail!("the machine said `{frame}` out of turn"),
        }
        Ok(None)
    }

    /// The one that is open; empty between two.
    fn step(&self) -> &str {
        self.open.as_ref().map_or("", |(step, _)| step)
    }

    fn place(&self) -> String {
        match (&self.open, self.outcomes.last()) {
            (Some((step, _)), _) => format!("in the middle of `{step}`"),
            (None, Some(last)) => format!("after `{}`", last.step),
            (None, None) => "before the first step began".to_owned(),
        }
    }
}

fn tail(console: &Path) -> String {
    let text = fs::read(console).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines
        .get(lines.len().saturating_sub(30)..)
        .unwrap_or_default()
        .join("\n")
}

/// Copies the console out of the folder that goes away, and says where to.
fn keep(console: &Path, to: PathBuf) -> String {
    match fs::copy(console, &to) {
        Ok(_) => to.display().to_string(),
        Err(error) => format!("nowhere: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(lines: &[&str]) -> Result<Vec<(String, String, i32)>> {
        let mut frames = Frames::new("@w@");
        for line in lines {
            frames.line(line)?;
        }
        assert!(frames.done, "{}", frames.place());
        Ok(frames
            .outcomes
            .into_iter()
            .map(|outcome| (outcome.step, outcome.output, outcome.status))
            .collect())
    }

    #[test]
    fn steps_are_told_apart() {
        let outcomes = frames(&[
            "noise of a shell",
            "@w@ begin one",
            "test a ... ok",
            "no newline@w@ end one 0",
            "@w@ begin two",
            "@w@ end two 101",
            "@w@ done",
        ])
        .unwrap();
        assert_eq!(
            outcomes,
            [
                ("one".to_owned(), "test a ... ok\nno newline\n".to_owned(), 0),
                ("two".to_owned(), String::new(), 101),
            ]
        );
    }

    #[test]
    fn frames_out_of_turn_are_an_error() {
        for lines in [
            &["@w@ end one 0"][..],
            &["@w@ begin one", "@w@ begin two"],
            &["@w@ begin one", "@w@ end two 0"],
            &["@w@ begin one", "@w@ done"],
            &["@w@ begin one", "@w@ end one zero"],
        ] {
            assert!(frames(lines).is_err(), "{lines:?}");
        }
    }
}
