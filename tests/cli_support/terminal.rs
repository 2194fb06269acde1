//! A command on a terminal of its own, and the content of its screen.

use super::TIMEOUT;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Instant;

/// The arguments are the terminal and the command. A session leader that opens a terminal gets it as its
/// controlling terminal.
const AT_TERMINAL: &str = r#"terminal=$1; shift; exec "$@" <"$terminal" >"$terminal" 2>&1"#;

pub struct Terminal {
    keyboard: File,
    child: Child,
    screen: Arc<(Mutex<Screen>, Condvar)>,
}

impl Terminal {
    pub fn start(command: &Command, (columns, rows): (u16, u16)) -> Terminal {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let keyboard = openpt(flags).unwrap();
        grantpt(&keyboard).unwrap();
        unlockpt(&keyboard).unwrap();
        let path = ptsname(&keyboard, Vec::new()).unwrap().into_string().unwrap();
        let mut at_terminal = Command::new("setsid");
        at_terminal.args(["sh", "-c", AT_TERMINAL, "sh", &path]).arg(command.get_program());
        at_terminal.args(command.get_args()).env("TERM", "xterm");
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => at_terminal.env(name, value),
                None => at_terminal.env_remove(name),
            };
        }
        let screen = Arc::new((Mutex::new(Screen::default()), Condvar::new()));
        let mut terminal = Terminal {
            child: {
                set_size(&keyboard, columns, rows);
                at_terminal.stdin(Stdio::null()).spawn().unwrap()
            },
            keyboard: keyboard.into(),
            screen,
        };
        terminal.resize((columns, rows));
        terminal.show();
        terminal
    }

    pub fn resize(&mut self, (columns, rows): (u16, u16)) {
        self.screen.0.lock().unwrap().resize(columns.into(), rows.into());
        set_size(&self.keyboard, columns, rows);
    }

    /// Updates the screen with the command's output.
    fn show(&self) {
        let mut output = self.keyboard.try_clone().unwrap();
        let screen = self.screen.clone();
        std::thread::spawn(move || {
            let mut octets = [0; 4096];
            // It fails when the command is gone.
            while let Ok(read @ 1..) = output.read(&mut octets) {
                screen.0.lock().unwrap().take(&octets[..read]);
                screen.1.notify_all();
            }
        });
    }

    pub fn types(&mut self, text: &str) {
        self.keyboard.write_all(text.as_bytes()).unwrap();
    }

    /// Waits until the screen satisfies the condition, and returns it.
    pub fn shows(&self, what: &str, is_so: impl Fn(&str) -> bool) -> String {
        let give_up = Instant::now() + TIMEOUT;
        let mut screen = self.screen.0.lock().unwrap();
        loop {
            let text = screen.text();
            if is_so(&text) {
                return text;
            }
            let left = give_up.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "{what}, but the screen is\n{text}");
            screen = self.screen.1.wait_timeout(screen, left).unwrap().0;
        }
    }

    /// Waits for a text on the screen.
    pub fn shows_text(&self, text: &str) -> String {
        self.shows(&format!("{text:?} should be there"), |screen| screen.contains(text))
    }

    /// The process of the command: `setsid` and the shell become it.
    pub fn command_id(&self) -> u32 {
        self.child.id()
    }

    pub fn exit_code(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }

    /// Whether the terminal is in line mode with echo.
    pub fn is_as_usual(&self) -> bool {
        let usual = LocalModes::ICANON | LocalModes::ECHO;
        tcgetattr(&self.keyboard).unwrap().local_modes.contains(usual)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn set_size(terminal: impl rustix::fd::AsFd, columns: u16, rows: u16) {
    let size = Winsize { ws_col: columns, ws_row: rows, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(terminal, size).unwrap();
}

/// The content of a terminal; understands the control sequences that the commands use.
#[derive(Default)]
struct Screen {
    rows: Vec<Vec<char>>,
    row: usize,
    column: usize,
    /// The beginning of a character or of a control sequence.
    unread: Vec<u8>,
}

impl Screen {
    fn resize(&mut self, columns: usize, rows: usize) {
        *self = Screen { rows: vec![vec![' '; columns]; rows], ..Screen::default() };
    }

    fn text(&self) -> String {
        let rows = self.rows.iter().map(|row| row.iter().collect::<String>());
        rows.map(|row| row.trim_end().to_owned() + "\n").collect()
    }

    fn take(&mut self, octets: &[u8]) {
        for octet in octets {
            self.unread.push(*octet);
            let is_whole = match &self.unread[..] {
                [0x1b] | [0x1b, b'('] => false,
                [0x1b, b'[', .., last] if self.unread.len() > 2 => (0x40..0x7f).contains(last),
                [0x1b, b'['] => false,
                [0x1b, ..] => true,
                text => std::str::from_utf8(text).is_ok(),
            };
            if is_whole {
                let whole = std::mem::take(&mut self.unread);
                match String::from_utf8(whole).unwrap() {
                    sequence if sequence.starts_with("\x1b[") => self.control(&sequence[2..]),
                    sequence if sequence.starts_with('\x1b') => {}
                    text => text.chars().for_each(|character| self.put(character)),
                }
            }
        }
    }

    fn put(&mut self, character: char) {
        match character {
            '\r' => self.column = 0,
            '\n' if self.row + 1 < self.rows.len() => self.row += 1,
            '\n' => {
                let first = self.rows.remove(0);
                self.rows.push(vec![' '; first.len()]);
            }
            '\u{8}' => self.column = self.column.saturating_sub(1),
            character if character.is_control() => {}
            character => {
                if self.rows.get(self.row).is_some_and(|row| self.column >= row.len()) {
                    self.put('\r');
                    self.put('\n');
                }
                if let Some(cell) = self.rows.get_mut(self.row).and_then(|r| r.get_mut(self.column))
                {
                    *cell = character;
                }
                self.column += 1;
            }
        }
    }

    fn control(&mut self, sequence: &str) {
        let (arguments, name) = sequence.split_at(sequence.len() - 1);
        let numbers: Vec<usize> =
            arguments.split(';').map(|number| number.parse().unwrap_or(0)).collect();
        let first = numbers.first().copied().unwrap_or(0);
        match name {
            "H" | "f" => {
                let column = numbers.get(1).copied().unwrap_or(0);
                (self.row, self.column) = (first.saturating_sub(1), column.saturating_sub(1));
            }
            "J" if first == 2 => self.clear(),
            "h" | "l" if arguments == "?1049" => self.clear(),
            "J" => {
                let (row, column) = (self.row, self.column);
                for cell in self.rows.iter_mut().skip(row).flatten().skip(column) {
                    *cell = ' ';
                }
            }
            "K" => {
                let column = self.column;
                for cell in self.rows.iter_mut().skip(self.row).take(1).flatten().skip(column) {
                    *cell = ' ';
                }
            }
            _ => {}
        }
    }

    fn clear(&mut self) {
        self.rows.iter_mut().flatten().for_each(|cell| *cell = ' ');
    }
}
