//! Looking at a container from outside.

use std::{
    fs,
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

async fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < PATIENCE, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Until the process has computed for 100 ms more.
pub async fn wait_until_busy(pid: u32) {
    let before = ticks(pid);
    wait_until("the region never computed", || ticks(pid) >= before + 10).await;
}

pub async fn wait_until_gone(pid: u32) {
    wait_until("the process is still there", || !exists(pid)).await;
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
