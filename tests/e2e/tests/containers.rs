//! Containers that outlive their command: made, started, left, found again, ended, removed.

use bulkhead_e2e::images::images;
use bulkhead_e2e::machine::{assert_unchanged, snapshot};
use bulkhead_e2e::shell::{background, output};
use bulkhead_e2e::terminal::Terminal;

/// Runs a script, which must leave the machine as it was.
fn clean(script: &str) -> String {
    let before = snapshot();
    // What goes on in the background would hold our streams open after a failure.
    let end = "trap 'kill $(jobs -p) 2>/dev/null || true' EXIT";
    let shown = output(&format!("set -e; {end}; t=$(mktemp -d); {script}\nrm -r $t"));
    assert_unchanged(&before, script);
    shown
}

#[test]
fn a_container_is_made_started_again_and_removed_with_what_it_wrote() {
    let shown = clean(
        "bulkhead create --name keeper $BUSYBOX sh -c 'echo x >> /file; wc -l < /file; exit 3' >/dev/null
         bulkhead ps -a --format '{{.Names}} {{.Status}}'
         bulkhead start -a keeper || echo code $?
         bulkhead start -a keeper || echo code $?
         bulkhead logs keeper
         bulkhead ps -a --filter exited=3 --format '{{.Names}} {{.State}}'
         bulkhead rm keeper",
    );
    let expected = "keeper Created\n1\ncode 3\n2\ncode 3\n1\n2\nkeeper exited\nkeeper";
    assert_eq!(shown, expected);
}

#[test]
fn a_container_in_the_background_is_logged_waited_for_and_stopped() {
    let shown = clean(
        "id=$(bulkhead run -d --name back --cidfile $t/id $BUSYBOX sh -c 'trap \"echo bye; exit 7\" TERM; echo up; while :; do sleep 0.1; done')
         test $(cat $t/id) = $id && test ${#id} = 64 && echo id
         until bulkhead logs back | grep -q up; do sleep 0.2; done
         bulkhead wait back > $t/code & waiting=$!
         bulkhead logs -f back > $t/log & following=$!
         bulkhead rm back 2>&1 | sed 's/.*: stop/stop/'
         bulkhead stop -t 60 back
         wait $waiting $following
         cat $t/code $t/log
         bulkhead stop back; bulkhead wait back
         bulkhead rm back",
    );
    assert_eq!(shown, "id\nstop it first or use rm -f\nback\n7\nup\nbye\nback\n7\nback");
}

#[test]
fn a_command_that_does_not_end_is_killed_in_time_and_several_at_once() {
    let shown = clean(
        "for name in one two three; do bulkhead run -d --name $name $BUSYBOX sleep 1000 >/dev/null; done
         bulkhead stop -t 1 one two three
         bulkhead wait one two three
         bulkhead rm one two three >/dev/null",
    );
    assert_eq!(shown, "one\ntwo\nthree\n137\n137\n137");
}

#[test]
fn logs_show_what_is_asked_for() {
    // The two streams travel apart: only what is written when the log has the rest has an order.
    let shown = clean(
        "logged() { until bulkhead logs talker 2>&1 | grep -q \"$1\"; do sleep 0.2; done; echo go on; }
         { logged 'line 5'; logged oops; } | bulkhead run -i --name talker $BUSYBOX sh -c 'for i in 1 2 3 4 5; do echo line $i; done; read go; echo oops >&2; read go; printf end' >/dev/null 2>&1
         bulkhead logs --tail 2 talker 2>/dev/null; echo
         bulkhead logs talker 2>&1 >/dev/null
         bulkhead logs -t -n 1 talker 2>/dev/null | grep -cE '^20[0-9-]+T[0-9:]+\\.[0-9]{9}Z end$'
         bulkhead logs --since 1h talker 2>/dev/null | wc -l; bulkhead logs --until 1h talker | wc -l
         bulkhead rm talker >/dev/null
         bulkhead run --name silent --log-driver none $BUSYBOX echo shown
         bulkhead logs silent 2>&1 | grep -c 'log driver is none'
         bulkhead rm silent >/dev/null",
    );
    assert_eq!(shown, "end\noops\n1\n5\n0\nshown\n1");
}

#[test]
fn a_log_takes_no_more_than_its_share_of_the_disk() {
    let shown = clean(
        "bulkhead run --name flood --log-opt max-size=100k --log-opt max-file=2 $BUSYBOX sh -c 'yes | head -n 1000000' | wc -l
         test $(cat /var/lib/bulkhead/containers/*/log* | wc -c) -le 204800 && echo bounded
         bulkhead logs flood | tail -n 1
         bulkhead rm flood >/dev/null",
    );
    assert_eq!(shown, "1000000\nbounded\ny");
}

#[test]
fn names_are_given_once_and_can_be_changed() {
    let shown = clean(
        "bulkhead create --name first $BUSYBOX true >/dev/null
         bulkhead create --name first $BUSYBOX true 2>&1 | grep -c 'already in use'
         bulkhead create --name second $BUSYBOX true >/dev/null
         bulkhead rename first second 2>&1 | grep -c 'already in use'
         bulkhead rename first third; bulkhead ps -a --format '{{.Names}}'
         for i in 1 2 3 4 5 6; do bulkhead create --name raced $BUSYBOX true >> $t/made 2>> $t/refused & done; wait
         wc -l < $t/made; grep -c 'already in use' $t/refused
         bulkhead rm second third raced >/dev/null",
    );
    assert_eq!(shown, "1\n1\nsecond\nthird\n1\n5");
}

#[test]
fn a_container_is_started_again_as_its_policy_says() {
    // The second run of `always` does not end by itself while it is being stopped.
    let shown = clean(
        "bulkhead run -d --name tries --restart on-failure:2 $BUSYBOX sh -c 'echo run; exit 4' >/dev/null
         until [ \"$(bulkhead ps -a --filter name=tries --format '{{.State}}')\" = exited ]; do sleep 0.3; done
         bulkhead logs tries
         bulkhead run -d --name always --restart always $BUSYBOX sh -c 'echo run; [ -e /again ] && exec sleep 1000; echo > /again' >/dev/null
         until [ $(bulkhead logs always | wc -l) -ge 2 ]; do sleep 0.3; done
         bulkhead stop -t 1 always; bulkhead ps -a --filter name=always --format '{{.State}}'
         bulkhead rm tries always >/dev/null",
    );
    assert_eq!(shown, "run\nrun\nrun\nalways\nexited");
}

#[test]
fn a_container_is_left_by_keys_and_come_back_to() {
    let before = snapshot();
    let busybox = images().busybox.to_str().expect("a path");
    let mut terminal = Terminal::new(24, 80);
    terminal.run(&["bulkhead", "run", "-it", "--rm", "--name", "left", busybox, "sh"]);
    terminal.press("echo fir''st\n");
    terminal.expect("first\r\n");
    terminal.press("\x10\x11");
    assert_eq!(terminal.wait(), 0);
    assert_eq!(output("bulkhead ps --format '{{.Names}} {{.State}}'"), "left running");
    let mut other = Terminal::new(40, 120);
    other.run(&["bulkhead", "attach", "left"]);
    // The size travels apart from the keys.
    other.press("until stty size | grep -q '40 120'; do sleep 0.1; done; stty size; exit 6\n");
    other.expect("40 120\r\n");
    assert_eq!(other.wait(), 6);
    assert_unchanged(&before, "left and come back to");
}

#[test]
fn several_clients_see_the_same_and_may_leave() {
    let before = snapshot();
    let id = output("bulkhead run -d -i --rm --name shared $BUSYBOX cat");
    let mut one = background("sh -c 'echo ready; exec bulkhead attach --no-stdin shared'");
    let killed = background("sh -c 'echo ready; exec bulkhead attach --no-stdin shared'");
    output(&format!(
        "until [ $(bulkhead events --since 1h --until 0s --filter container={id} --filter event=attach | wc -l) = 2 ]; do sleep 0.2; done"
    ));
    drop(killed);
    let mut second = background("sh -c 'echo ready; echo hello | bulkhead attach shared'");
    assert_eq!(second.line(), "hello");
    assert_eq!(one.line(), "hello");
    drop(second);
    output("bulkhead stop -t 0 shared");
    assert_eq!(one.wait(), 137);
    assert_unchanged(&before, "several clients");
}

#[test]
fn the_health_check_tells_how_a_container_is() {
    let shown = clean(
        "health() { until bulkhead ps --filter name=patient --filter health=$1 --format '{{.Status}}' | grep -o \"($1)\"; do sleep 0.3; done; }
         id=$(bulkhead run -d --name patient --health-cmd 'test -e /well' --health-interval 1s --health-retries 2 $BUSYBOX sleep 1000)
         health unhealthy
         bulkhead exec patient touch /well
         health healthy
         bulkhead events --since 1h --until 0s --filter container=$id --filter event=health_status --format '{{.Action}}'
         bulkhead rm -f patient",
    );
    let expected = "(unhealthy)\n(healthy)\nhealth_status: unhealthy\nhealth_status: healthy\npatient";
    assert_eq!(shown, expected);
}

#[test]
fn events_tell_a_containers_story() {
    let shown = clean(
        "bulkhead run --rm --cidfile $t/id $BUSYBOX true
         bulkhead events --since 1h --until 0s --filter container=$(cat $t/id) --format '{{.Action}}'",
    );
    assert_eq!(shown, "create\nstart\ndie\ndestroy");
}

#[test]
fn a_container_that_cannot_start_says_why_and_stays_as_it_was() {
    let shown = clean(
        "bulkhead run --name broken $BUSYBOX no-such-program 2>&1 | grep -c 'not found'
         bulkhead ps -a --format '{{.Status}}'
         bulkhead start broken 2>&1 | grep -c 'not found'
         bulkhead rm broken >/dev/null
         bulkhead run -d --rm $BUSYBOX /etc/passwd 2>/dev/null || echo code $?",
    );
    assert_eq!(shown, "1\nCreated\n1\ncode 126");
}

#[test]
fn an_oom_kill_is_reported_as_such() {
    let shown = clean(
        "bulkhead run -m 32m --name eater --cidfile $t/id $BUSYBOX sh -c 'tail /dev/zero; exit $?' 2>/dev/null || echo code $?
         bulkhead events --since 1h --until 0s --filter container=$(cat $t/id) --filter event=oom --format '{{.Action}}'
         bulkhead rm eater >/dev/null",
    );
    assert_eq!(shown, "code 137\noom");
}
