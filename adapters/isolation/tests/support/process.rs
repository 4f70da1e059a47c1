//! Looking at a container from outside.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    process::Command,
    time::{Duration, Instant},
};

/// Longest wait for something that must come about.
const PATIENCE: Duration = Duration::from_secs(20);

/// The region that the calling thread had made last: each test has a thread of its own, and a program that divides twice
/// on the way to a region.
pub fn newest_region() -> u32 {
    newest_child(&children_of(newest_loaded())).expect("no region")
}

/// The process that the region is a copy of.
pub fn newest_loaded() -> u32 {
    newest_child(&children_of(newest_program())).expect("nothing is loaded")
}

/// The program that was started.
pub fn newest_program() -> u32 {
    newest_child("/proc/thread-self/children").expect("no program")
}

fn children_of(process: u32) -> String {
    format!("/proc/{process}/task/{process}/children")
}

fn newest_child(children: &str) -> Option<u32> {
    let children = fs::read_to_string(children).unwrap();
    children.split_whitespace().last()?.parse().ok()
}

pub fn exists(pid: u32) -> bool {
    fs::metadata(format!("/proc/{pid}")).is_ok()
}

/// CPU time of a process, in ticks: fields 14 and 15 of its stat.
fn ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields = stat.rsplit(')').next().unwrap();
    let times = fields.split_whitespace().skip(11).take(2);
    times.map(|field| field.parse::<u64>().unwrap()).sum()
}

async fn wait_until_then(what: &str, mut done: impl FnMut() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < PATIENCE, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The same in a test without a runtime.
pub fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Until the process has computed for 100 ms more.
pub async fn wait_until_busy(pid: u32) {
    let before = ticks(pid);
    wait_until_then("the region never computed", || ticks(pid) >= before + 10).await;
}

pub async fn wait_until_gone(pid: u32) {
    wait_until_then("the process is still there", || !exists(pid)).await;
}

/// Whether the process's memory has these bytes in it, in this order or the other one; nothing if it may not be read.
pub fn holds(pid: u32, secret: &[u8]) -> Option<bool> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).ok()?;
    let memory = File::open(format!("/proc/{pid}/mem")).ok()?;
    let reversed: Vec<u8> = secret.iter().rev().copied().collect();
    let found = |bytes: &[u8]| {
        let mut windows = bytes.windows(secret.len());
        windows.any(|window| window == secret || window == reversed)
    };
    let mut pages = vec![0; 1 << 20];
    for line in maps.lines().filter(|line| line.contains(" rw-p ")) {
        let (first, last) = line.split_whitespace().next()?.split_once('-')?;
        let parse = |number| u64::from_str_radix(number, 16).unwrap();
        let (mut at, last) = (parse(first), parse(last));
        while at < last {
            let count = usize::try_from(last - at).unwrap().min(pages.len());
            // Some areas cannot be read by anybody.
            let Ok(()) = memory.read_exact_at(&mut pages[..count], at) else {
                break;
            };
            if found(&pages[..count]) {
                return Some(true);
            }
            // Nothing is missed that lies across the border of two pieces.
            let step = if count == pages.len() {
                count - secret.len()
            } else {
                count
            };
            at += u64::try_from(step).unwrap();
        }
    }
    Some(false)
}

fn signal(pid: u32, name: &str) {
    let status = Command::new("kill").args([name, &pid.to_string()]).status();
    assert!(status.unwrap().success());
}

pub fn kill(pid: u32) {
    signal(pid, "-KILL");
}

pub fn stop(pid: u32) {
    signal(pid, "-STOP");
}

/// Lets a process go on that stops itself, once it has.
pub fn go_on(pid: u32) {
    wait_until("the process never stopped", || {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        stat.rsplit(')')
            .next()
            .unwrap()
            .trim_start()
            .starts_with('T')
    });
    signal(pid, "-CONT");
}
