//! People at terminals, all at once: nothing hangs, and nothing is left.

use std::thread;

use bulkhead_e2e::images::images;
use bulkhead_e2e::machine::{assert_unchanged, snapshot};
use bulkhead_e2e::shell::{output, sh};
use bulkhead_e2e::terminal::Terminal;

const PEOPLE: usize = 20;

/// Runs a container in the background, follows its log, works in it at a terminal, and ends it.
fn person(number: usize) {
    let name = format!("person{number}");
    let script = "trap 'exit 5' TERM; i=0; while :; do i=$((i+1)); echo line $i; sleep 0.5; done";
    let run = format!("bulkhead run -d -m 32m --name {name} $BUSYBOX sh -c \"{script}\"")
        .replace("$((", "\\$((")
        .replace("$i", "\\$i");
    output(&run);

    let mut log = Terminal::new(24, 80);
    log.run(&["bulkhead", "logs", "-f", &name]);
    log.expect("line 2\r\n");

    let mut shell = Terminal::new(24, 80);
    shell.run(&["bulkhead", "exec", "-it", &name, "sh"]);
    shell.press(&format!("echo at wor''k {number}; stty size; exit 3\n"));
    shell.expect(&format!("at work {number}\r\n24 80\r\n"));
    assert_eq!(shell.wait(), 3);

    assert_eq!(output(&format!("bulkhead stop -t 200 {name}")), name);
    assert_eq!(log.wait(), 0, "the log is followed to its end");
    let code = output(&format!("bulkhead wait {name}"));
    assert_eq!(code, "5", "{}", output(&format!("bulkhead inspect {name} --format '{{{{json .State}}}}'")));
    output(&format!("bulkhead rm {name}"));
}

#[test]
fn many_terminals_at_once() {
    let _ = images();
    let before = snapshot();
    // The image is there before they all want it.
    output("bulkhead run --rm $BUSYBOX true");
    thread::scope(|scope| {
        let people: Vec<_> = (0..PEOPLE).map(|number| scope.spawn(move || person(number))).collect();
        let all = people.into_iter().map(|person| person.join());
        // Everybody is waited for, whatever became of the others.
        let let_down = all.filter(Result::is_err).count();
        assert_eq!(let_down, 0, "somebody was let down");
    });
    assert_eq!(sh("bulkhead ps -aq").stdout, "");
    assert_unchanged(&before, "many terminals");
}
