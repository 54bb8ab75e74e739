//! What Docker's own documentation shows, and what nobody should write.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::Template;

fn container() -> Value {
    json!({
        "Id": "0123456789abcdef", "Name": "/web", "RestartCount": 0, "Path": "nginx",
        "State": {"Running": true, "ExitCode": 0, "Health": null, "Status": "running"},
        "Config": {"Image": "nginx:1", "Env": ["A=1", "B=2"], "Labels": {"com.example.tier": "front", "b": "x"}},
        "NetworkSettings": {"Ports": {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}]}, "Networks": {}},
        "Mounts": [{"Source": "/a", "Destination": "/b"}, {"Source": "/c", "Destination": "/d"}],
    })
}

fn render(template: &str) -> String {
    Template::parse(template).unwrap().render(&container()).unwrap()
}

fn error(template: &str) -> String {
    match Template::parse(template) {
        Err(error) => error.to_string(),
        Ok(parsed) => parsed.render(&container()).unwrap_err().to_string(),
    }
}

#[test]
fn fields_and_functions_of_docker_s_documentation() {
    for (template, expected) in [
        ("{{.Name}} {{.State.Running}}", "/web true"),
        ("{{.Config.Image}}", "nginx:1"),
        ("{{json .Config.Env}}", r#"["A=1","B=2"]"#),
        ("{{join .Config.Env \", \"}}", "A=1, B=2"),
        ("{{split .Config.Image \":\"}}", "[nginx 1]"),
        ("{{index .Config.Labels \"com.example.tier\"}}", "front"),
        ("{{index .Config.Labels \"none\"}}", ""),
        ("{{.Name | upper | printf \"%-6s|\"}}", "/WEB  |"),
        ("{{title .Path}} {{lower \"ABC\"}} {{truncate .Id 12}} {{len .Mounts}}", "Nginx abc 0123456789ab 2"),
        ("{{println .Name}}", "/web\n"),
        (
            "{{.Config.Labels}} {{.Config.Env}} {{.State.Health}}",
            "map[b:x com.example.tier:front] [A=1 B=2] <no value>",
        ),
        ("{{(index (index .NetworkSettings.Ports \"80/tcp\") 0).HostPort}}", "8080"),
        ("{{with .Config}}{{.Image}} of {{$.Name}}{{end}}", "nginx:1 of /web"),
        ("{{slice .Id 0 4}} {{pad \"x\" 1 2}}|", "0123  x  |"),
    ] {
        assert_eq!(render(template), expected, "{template}");
    }
}

#[test]
fn blocks_choose_and_repeat() {
    for (template, expected) in [
        ("{{if .State.Running}}up{{else}}down{{end}}", "up"),
        (
            "{{if .State.Health}}{{.State.Health.Status}}{{else if eq .State.ExitCode 0}}fine{{else}}bad{{end}}",
            "fine",
        ),
        ("{{if and .State.Health .State.Health.Status}}x{{end}}", ""),
        ("{{if or .State.Health (gt (len .Mounts) 1)}}many{{end}}", "many"),
        ("{{range .Mounts}}{{.Source}}:{{.Destination}} {{end}}", "/a:/b /c:/d "),
        (
            "{{range $p, $c := .NetworkSettings.Ports}}{{$p}} -> {{(index $c 0).HostPort}}{{end}}",
            "80/tcp -> 8080",
        ),
        ("{{range $i, $m := .Mounts}}{{if $i}},{{end}}{{$m.Source}}{{end}}", "/a,/c"),
        ("{{range .NetworkSettings.Networks}}x{{else}}none{{end}}", "none"),
        ("{{$n := .Name}}{{with .State}}{{$n}}{{end}}", "/web"),
        ("{{$n := 1}}{{if true}}{{$n = 2}}{{end}}{{$n}}", "2"),
        ("a  {{- /* nothing */ -}}  b {{- .Path -}} \n c", "abnginxc"),
        ("{{with .State.Health}}{{.Status}}{{else}}no check{{end}}", "no check"),
        (
            "{{not .State.Running}} {{ne 1 2}} {{le 1 1.5}} {{eq .State.Status \"exited\" \"running\"}}",
            "false true true true",
        ),
    ] {
        assert_eq!(render(template), expected, "{template}");
    }
}

#[test]
fn printf_is_go_s() {
    for (template, expected) in [
        (r#"{{printf "%d|%5d|%-5d|%05d|%x" 42 42 42 42 255}}"#, "42|   42|42   |00042|ff"),
        (
            r#"{{printf "%.2f %q %t %v %%" 1.005 "a\"b" true .Config.Env}}"#,
            "1.00 \"a\\\"b\" true [A=1 B=2] %",
        ),
        (r#"{{printf "%d" "x"}} {{printf "%s"}} {{printf "x" 1}}"#, "%!d(x) %!s(MISSING) x%!(EXTRA 1)"),
        (r#"{{printf "%.3s" .Id}}"#, "012"),
    ] {
        assert_eq!(render(template), expected, "{template}");
    }
}

#[test]
fn rows_have_their_escapes_written_out() {
    let template = Template::parse_row(r#"{{.Name}}\t{{printf "a\tb"}}\n"#).unwrap();
    assert_eq!(template.render(&container()).unwrap(), "/web\ta\tb\n");
    let headings = json!({"Names": "NAMES", "ID": "CONTAINER ID"});
    let template = Template::parse_row(r"{{truncate .ID 4}}\t{{.Names | lower}}").unwrap();
    assert_eq!(template.render_heading(&headings).unwrap(), "CONTAINER ID\tNAMES");
}

#[test]
fn labels_are_asked_for_by_name() {
    let row = json!({"Label": {"tier": "front"}});
    let render = |template| Template::parse(template).unwrap().render(&row).unwrap();
    assert_eq!(render("{{.Label \"tier\"}}|{{.Label \"none\"}}|"), "front||");
}

#[test]
fn what_is_wrong_is_named_with_its_place() {
    for (template, words) in [
        ("{{.Nope}}", "1:3: there is no field .Nope here; there are Config"),
        ("a\n{{ .Name.First }}", "2:4: .First is looked for in a string"),
        ("{{.Name", "1:1: {{ is not closed by }}"),
        ("{{if .Name}}x", "1:1: {{if}} is not closed by {{end}}"),
        ("{{end}}", "1:1: end ends no block"),
        ("{{shout .Name}}", "1:3: there is no function shout"),
        ("{{index .Mounts 7}}", "1:3: index 7 is out of range"),
        ("{{\"abc}}", "1:3: the string is not closed"),
        ("{{lt .Name 1}}", "1:3: a string cannot be compared with a number"),
        ("{{template \"x\"}}", "1:1: template is not supported"),
        ("{{}}", "1:1: a value is missing"),
        ("{{$x}}", "1:3: there is no variable $x"),
        ("{{range .Name}}{{end}}", "1:9: range cannot go over a string"),
        ("{{.Name)}}", "there is a ) too many"),
        ("{{/* x }}", "1:1: the comment is not closed"),
    ] {
        let error = error(template);
        assert!(error.contains(words), "{template}: {error}");
    }
}

#[test]
fn depth_is_bounded() {
    let blocks = "{{if .Name}}".repeat(100) + &"{{end}}".repeat(100);
    assert!(error(&blocks).contains("nested deeper"));
    let groups = format!("{{{{{}.Name{}}}}}", "(".repeat(100_000), ")".repeat(100_000));
    assert!(error(&groups).contains("nested deeper"));
    let elses = "{{if .Name}}".to_owned() + &"{{else if .Name}}".repeat(10_000) + "{{end}}";
    assert!(error(&elses).contains("nested deeper"));
}

proptest! {
    #[test]
    fn no_text_at_all_makes_it_panic(text in any::<String>()) {
        if let Ok(template) = Template::parse_row(&text) {
            let _ = template.render(&container());
        }
    }

    #[test]
    fn no_pieces_of_templates_make_it_panic(pieces in proptest::collection::vec(
        prop_oneof![
            Just("{{"), Just("}}"), Just("{{-"), Just("-}}"), Just(" "), Just(".Name"), Just(".State"), Just("if"),
            Just("else"), Just("end"), Just("range"), Just("with"), Just("$x"), Just(":="), Just("="), Just(","),
            Just("|"), Just("("), Just(")"), Just("\"é\""), Just("3"), Just("-1"), Just("index"), Just("printf"),
            Just("\"%5.3q%\""), Just("slice"), Just("."), Just("/*"), Just("*/"), Just("\\n"), Just("truncate"),
        ],
        0..24,
    )) {
        if let Ok(template) = Template::parse_row(&pieces.concat()) {
            let _ = template.render(&container());
        }
    }
}
