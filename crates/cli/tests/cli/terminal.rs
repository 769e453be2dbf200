//! A conversation at a terminal: lines are edited, go on, are thrown away and kept.
#![cfg(target_os = "linux")]

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use serde_json::Value;

use super::chat::model;
use super::workshop::path;

/// How long a terminal is quiet before it waits for a key.
const QUIET: Duration = Duration::from_millis(300);
const PATIENCE: Duration = Duration::from_secs(60);

/// A program at a terminal of its own.
struct Terminal {
    keys: File,
    shown: Arc<Mutex<(Vec<u8>, Instant)>>,
    child: Child,
}

impl Terminal {
    fn run(command: &mut Command) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        grantpt(&master).and_then(|()| unlockpt(&master)).expect("it is ours");
        let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&master, size).expect("it has a size");
        let name = ptsname(&master, Vec::new()).expect("it has a name");
        let end = || -> OwnedFd {
            rustix::fs::open(&name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).expect("its other end")
        };
        let command = command.stdin(Stdio::from(end())).stdout(Stdio::from(end())).stderr(Stdio::from(end()));
        let child = command.env("TERM", "xterm").spawn().expect("it starts");
        let keys = File::from(master);
        let mut screen = keys.try_clone().expect("both ways");
        let shown = Arc::new(Mutex::new((Vec::new(), Instant::now())));
        let heard = Arc::clone(&shown);
        std::thread::spawn(move || {
            let mut some = [0; 4096];
            // The end of the program is an error to read from.
            while let Ok(n @ 1..) = screen.read(&mut some) {
                let mut heard = heard.lock().expect("a lock");
                heard.0.extend_from_slice(&some[..n]);
                heard.1 = Instant::now();
            }
        });
        Terminal { keys, shown, child }
    }

    /// Presses keys once there is a prompt, and waits for what comes of it.
    fn press(&mut self, keys: &str) {
        self.wait();
        self.keys.write_all(keys.as_bytes()).expect("it listens");
        std::thread::sleep(QUIET);
    }

    /// Waits until the last thing on the screen is a prompt, or a line that goes on.
    fn wait(&self) {
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            std::thread::sleep(QUIET / 10);
            let (text, at) = &*self.shown.lock().expect("a lock");
            if at.elapsed() > QUIET && String::from_utf8_lossy(text).contains('›') {
                return;
            }
        }
        panic!("no prompt: {}", self.text());
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.shown.lock().expect("a lock").0).into_owned()
    }
}

#[test]
fn lines_are_edited_and_kept() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (saved, history) = (path(dir.path(), "saved.jsonl"), path(dir.path(), "state/lines"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_mynah"));
    command.args(["chat", "--model", model(), "--max-tokens", "2"]).env("MYNAH_HISTORY", &history);
    let mut terminal = Terminal::run(&mut command);
    // Deleting a wide character; going to the beginning; a line that goes on; one that is thrown away.
    terminal.press("你好吗\u{7f}\r");
    terminal.press("world\u{1}hello \r");
    terminal.press("line one\\\r");
    terminal.press("line two\r");
    terminal.press("never said\u{3}");
    terminal.press("\u{1b}[A\u{1b}[A\u{1b}[A\r");
    terminal.press(&format!("/save {saved}\r"));
    terminal.press("\u{4}");
    let ended = terminal.child.wait().expect("it ends");
    assert!(ended.success(), "{}", terminal.text());
    let text = fs::read_to_string(&saved).unwrap_or_else(|_| panic!("{}", terminal.text()));
    let saved: Value = serde_json::from_str(&text).expect("JSON");
    let said =
        saved["messages"].as_array().expect("a list").iter().filter(|message| message["role"] == "user");
    let said: Vec<&str> = said.filter_map(|message| message["content"].as_str()).collect();
    assert_eq!(said, ["你好", "hello world", "line one\nline two", "hello world"], "{}", terminal.text());
    assert!(!terminal.text().contains("^[[A"), "arrows move");
    let kept = fs::read_to_string(&history).expect("lines are kept");
    assert!(kept.contains("你好") && kept.contains("hello world") && !kept.contains("never said"), "{kept}");
}
