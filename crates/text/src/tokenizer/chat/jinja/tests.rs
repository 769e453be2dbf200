use super::*;

/// Where the engine is otherwise than Jinja2: what it does not know it refuses by name, but for the last
/// ones, which no conversation brings about.
const OTHERWISE: &[&str] = &[
    "{!r}",
    "wordwrap",
    "indent('> ')",
    "urlencode",
    "xmlattr",
    "encode(",
    "translate(",
    "{{ +1 }}",
    "namespace({",
    "varargs",
    "{% block",
    "\\u200b",
    "{{ range(3) }}",
    "1 < 'a'",
    "items is callable",
    "lipsum",
    "content.upper }}",
    "self is",
    "{{ n }}",
    "in none",
    "{{ 'user' in roles }}",
    "{{ loop }}",
];

#[test]
fn expressions_say_what_they_say_in_python() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/templates.json");
    let golden: Json = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let names = golden["names"].as_object().unwrap().iter();
    let names: Vec<(String, String)> =
        names.map(|(name, token)| (name.clone(), token.as_str().unwrap().to_owned())).collect();
    let now = chrono::NaiveDate::from_ymd_opt(2024, 3, 5).unwrap().and_hms_opt(7, 9, 1).unwrap();
    let mut wrong = Vec::new();
    for case in golden["cases"].as_array().unwrap() {
        let source = case["source"].as_str().unwrap();
        if OTHERWISE.iter().any(|otherwise| source.contains(otherwise)) {
            continue;
        }
        let rendered = Renderer::new(source, &names, now).and_then(|mut renderer| {
            renderer.environment.add_global("n", value_of(&golden["n"]));
            renderer.environment.add_global("loop_count", 4);
            renderer.render(golden["messages"].as_array().unwrap(), None, false)
        });
        let rendered = rendered.ok();
        if rendered.as_deref() != case["text"].as_str() {
            wrong.push(format!("{source}\n  {rendered:?}\n  {:?}", case["text"]));
        }
    }
    assert!(wrong.is_empty(), "{} are wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn the_texts_that_a_template_spells_are_known() {
    let source = "a 'no' {# 'no' #}{% raw %}{{ 'no' }}{% endraw %}{{ 'one' ~ \"two\\n\" }}{% if x == '}}' %}{{ '\\u00e9\\'' }}{% endif %}";
    assert_eq!(source::read(source).literals, ["one", "two\n", "}}", "é'"]);
}

#[test]
fn a_percent_sign_is_put_otherwise_with_its_operands() {
    for (source, expected) in [
        ("{{ a % b }}", "{{ (a )|__modulo( b) }}"),
        ("{{ 'x' % (a, b) ~ c }}", "{{ ('x' )|__modulo( (a, b)) ~ c }}"),
        ("{{ a.b[0](1) % c.d|e(2) + 1 }}", "{{ (a.b[0](1) )|__modulo( c.d|e(2)) + 1 }}"),
        ("{{ 1 + a * b % c % d }}", "{{ 1 + ((a * b )|__modulo( c) )|__modulo( d) }}"),
        ("{%- if x%2 -%}", "{%- if (x)|__modulo(2) -%}"),
        ("{{ '50 % off' }}", "{{ '50 % off' }}"),
        ("{{ x }} % {{ y }}", "{{ x }} % {{ y }}"),
        ("{{ % }}", "{{ % }}"),
    ] {
        assert_eq!(source::read(source).text, expected);
    }
}

#[test]
fn methods_and_filters_cannot_make_more_than_is_paid_for() {
    let now = chrono::NaiveDate::from_ymd_opt(2024, 3, 5).unwrap().and_hms_opt(7, 9, 1).unwrap();
    for source in [
        "{{ 'x'.ljust(10000000000) }}",
        "{{ 'x'.zfill(10000000000) }}",
        "{{ 'x' | center(4000000000) }}",
        "{{ '\t'.expandtabs(10000000000) }}",
        "{{ '%10000000000d' % 1 }}",
        "{{ '%99999999999999999999d' % 1 }}",
        "{{ '%*d' % (10000000000, 1) }}",
        "{{ '{:10000000000}'.format(1) }}",
        "{{ '{:{w}}'.format(1, w=10000000000) }}",
        "{{ 'xx'.replace('', 'x' * 10000000) }}",
        "{{ ('x' * 100000).join('y' * 100000) }}",
        "{% for a in range(99999) %}{% set c = messages | tojson(indent=64) %}{% endfor %}",
    ] {
        let start = std::time::Instant::now();
        let renderer = Renderer::new(source, &[], now).unwrap();
        let rendered = renderer.render(&[serde_json::json!({ "role": "user", "content": "x" })], None, false);
        assert!(rendered.is_err(), "{source}");
        assert!(start.elapsed() < std::time::Duration::from_millis(3000), "{source}: {:?}", start.elapsed());
    }
}
