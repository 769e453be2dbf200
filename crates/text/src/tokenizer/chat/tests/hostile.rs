//! Whatever a message spells and whatever a template does with it, the message is text.

use super::*;
use proptest::prelude::*;

/// How often a special token stands in tokens.
fn specials_in(tokenizer: &Tokenizer, tokens: &[u32]) -> Vec<u32> {
    tokens
        .iter()
        .copied()
        .filter(|id| tokenizer.specials().iter().any(|(_, special)| special == id))
        .collect()
}

proptest! {
    #[test]
    fn messages_never_become_special_tokens(
        contents in prop::collection::vec(
            r"(<\|im_end\|>|<\|im_start\|>|<\|endoftext\|>|<\||\|>|im_end|</s>|<s>|<\|eot_id\|>|\n|[ a-z<|>\u{e000}]){0,8}x?", 3
        ),
        which in 0usize..6,
    ) {
        let golden = &GOLDEN["templates"][which];
        let (tokenizer, template) = match golden["name"].as_str().unwrap() {
            "ours" => ours(),
            _ => {
                let tokenizer = tokenizer(golden, None);
                let template = ChatTemplate::of(&tokenizer).unwrap().unwrap();
                (tokenizer, template)
            }
        };
        let roles = [Role::User, Role::Assistant, Role::User];
        let say = |contents: [&str; 3]| say(&[0, 1, 2].map(|i| (roles[i], contents[i])));
        let messages = say([&contents[0], &contents[1], &contents[2]].map(|content| content.as_str()));
        let benign = contents.iter().map(|content| if content.trim().is_empty() { "" } else { "x" });
        let benign: Vec<&str> = benign.collect();
        let benign = say([benign[0], benign[1], benign[2]]);
        let tokens = template.prompt(&tokenizer, &messages).unwrap();
        let expected = template.prompt(&tokenizer, &benign).unwrap();
        prop_assert_eq!(specials_in(&tokenizer, &tokens), specials_in(&tokenizer, &expected));
        if golden["name"] == "ours" {
            // Nothing is lost either.
            let text: String = messages.iter().map(|message| {
                format!("<|im_start|>{}\n{}<|im_end|>\n", message.role.name(), message.content)
            }).collect();
            prop_assert_eq!(tokenizer.decode(&tokens).unwrap(), text + "<|im_start|>assistant\n");
        }
    }
}

#[test]
fn names_that_cross_from_template_to_message_stay_text() {
    let golden = golden("chatml");
    let source =
        "{% for m in messages %}<|im_start|>{{ m.role }} <|im_{{ m.content }}|im_end|><|im_end|>{% endfor %}";
    let tokenizer = tokenizer(golden, Some(json!(source)));
    let template = ChatTemplate::of(&tokenizer).unwrap().unwrap();
    for content in ["end|>", "<", "a"] {
        let tokens = template.prompt(&tokenizer, &say(&[(Role::User, content)])).unwrap();
        let [begin, end] = ["<|im_start|>", "<|im_end|>"].map(|name| tokenizer.special(name).unwrap());
        assert_eq!(specials_in(&tokenizer, &tokens), [begin, end], "{content}");
    }
}

#[test]
fn a_template_may_look_into_a_message_and_take_it_apart() {
    let source = "{% for m in messages %}{% set c = m.content %}{% if '</think>' in c %}{% set c = c.split('</think>')[-1].lstrip('\\n') %}\
                  {% endif %}<|im_start|>{{ c }}<|im_end|>{% endfor %}";
    let tokenizer = tokenizer(golden("chatml"), Some(json!(source)));
    let template = ChatTemplate::of(&tokenizer).unwrap().unwrap();
    let turns = say(&[(Role::User, "q"), (Role::Assistant, "<think>well <|im_end|></think>\n\nso")]);
    let text = tokenizer.decode(&template.prompt(&tokenizer, &turns).unwrap()).unwrap();
    assert_eq!(text, "<|im_start|>q<|im_end|><|im_start|>so<|im_end|>");
    let error = template.encode(&tokenizer, &turns).unwrap_err().to_string();
    assert!(error.contains("takes it apart"), "{error}");
}

/// A shape of the golden file with its tokenizer, of which `special` are special tokens, too.
fn shape(name: &str, special: &[&str]) -> (Tokenizer, ChatTemplate) {
    let shape = GOLDEN["shapes"].as_array().unwrap().iter().find(|shape| shape["name"] == name).unwrap();
    with_template(shape["template"].as_str().unwrap(), special)
}

fn with_template(template: &str, special: &[&str]) -> (Tokenizer, ChatTemplate) {
    let special: Vec<String> = special.iter().map(|name| name.to_string()).collect();
    let tokenizer = tokenizer(&GOLDEN["shaped"], Some(json!(template))).extended(&special).unwrap();
    let template = ChatTemplate::of(&tokenizer).unwrap().unwrap();
    (tokenizer, template)
}

fn names_in(tokenizer: &Tokenizer, tokens: &[u32]) -> Vec<String> {
    specials_in(tokenizer, tokens).into_iter().map(|id| tokenizer.decode(&[id]).unwrap()).collect()
}

proptest! {
    #[test]
    fn messages_never_become_special_tokens_in_any_shape(
        contents in prop::collection::vec(
            r"(<\|im_end\|>|<\|im_start\|>|\[/INST\]|</s>|<｜User｜>|<\|user\|>|<\||\|>|im_end|user|one|two|</|s>|<think>|</think>|\n|[ a-z<|>\u{e000}]){0,8}x?", 3
        ),
        which in 0usize..6,
    ) {
        // Those that write the same special tokens whatever is said.
        let name = ["llama-2", "qwen-2", "phi-4", "command-r", "equals", "shouting"][which];
        let (tokenizer, template) = shape(name, &[]);
        let roles = [Role::User, Role::Assistant, Role::User];
        let said: Vec<(Role, &str)> = roles.into_iter().zip(contents.iter().map(String::as_str)).collect();
        let tokens = template.prompt(&tokenizer, &say(&said)).unwrap();
        let benign = template.prompt(&tokenizer, &say(&roles.map(|role| (role, "x")))).unwrap();
        prop_assert_eq!(specials_in(&tokenizer, &tokens), specials_in(&tokenizer, &benign), "{} {:?}", name, contents);
    }
}

#[test]
fn what_is_left_of_a_message_makes_no_special_token_either() {
    // The template takes something out of the middle of a name, cuts it, or puts it together.
    for (template, content) in [
        ("{{ m.content.replace('</think>', '') }}", "<|im_</think>end|>"),
        ("{{ m.content | replace('\n', '') }}", "<|im_\nend|>"),
        ("{{ m.content.split('-') | join }}", "<|im-_en-d|>"),
        ("{{ m.content[::-1] }}", ">|dne_mi|<"),
        ("{{ m.content[0] ~ m.content[2:] }}", "<x|im_end|>"),
        ("{{ m.content.strip('x') }}", "xx<|im_end|>xx"),
        ("{{ m.content.lower() }}", "<|IM_END|>"),
        ("{{ '<|' ~ m.content ~ '|>' }}", "im_end"),
        ("{{ '<|im_' }}{{ m.content }}", "end|>"),
        ("{{ m.content | upper | lower }}", "<|im_end|>"),
        ("{% for c in m.content %}{{ c }}{% endfor %}", "<|im_end|>"),
        ("{{ '%s|%s' % (m.content, m.content) }}", "<|im_end|>"),
        ("{{ m.content | tojson(ensure_ascii=true) }}", "é<|im_end|>é😀"),
        ("{{ m | tojson }}", "\"<|im_end|>\\"),
        ("{{ m.content.partition('_')[0] ~ '_' ~ m.content.partition('_')[2] }}", "<|im_end|>"),
        ("{% if '<|im_end|>' in m.content %}{{ m.content }}{% endif %}", "<|im_end|>"),
        ("{{ m.content.partition('<|im_end|>')[1] }}", "a<|im_end|>b"),
        ("{{ m.content.split('x')[1] }}", "x<|im_end|>x"),
        ("{% if m.content == '<|im_end|>' %}{{ m.content }}{% endif %}", "<|im_end|>"),
    ] {
        let source = format!("{{% for m in messages %}}<|im_start|>{template}<|im_end|>{{% endfor %}}");
        let (tokenizer, template) = with_template(&source, &[]);
        let tokens = template.prompt(&tokenizer, &say(&[(Role::User, content)])).unwrap();
        assert_eq!(names_in(&tokenizer, &tokens), ["<|im_start|>", "<|im_end|>"], "{source} {content:?}");
    }
}

#[test]
fn a_template_that_looks_for_special_tokens_is_kept_from_seeing_them_or_obeyed() {
    // It takes them out: what is left is as transformers has it.
    let (tokenizer, template) = shape("clean", &[]);
    let text = |template: &ChatTemplate, tokenizer: &Tokenizer, content: &str| {
        let tokens = template.prompt(tokenizer, &say(&[(Role::User, content)])).unwrap();
        (tokenizer.decode(&tokens).unwrap(), names_in(tokenizer, &tokens).len())
    };
    assert_eq!(text(&template, &tokenizer, "a<|im_end|>b"), ("<|im_start|>user\nab<|im_end|>".into(), 2),);
    assert_eq!(template.notes(), Vec::<String>::new());
    // It writes one more for the one that it found: whose they are is not known, and it shall not have found
    // it.
    let more = "{% for m in messages %}{{ m.content }}{% if '<|im_end|>' in m.content %}<|im_end|>{% endif %}<|im_end|>{% endfor %}";
    let (tokenizer, template) = with_template(more, &[]);
    assert_eq!(text(&template, &tokenizer, "a<|im_end|>b"), ("a<|im_end|>b<|im_end|>".into(), 1));
    assert_eq!(template.notes().len(), 1, "and it is said");
}

#[test]
fn thoughts_between_special_tokens_are_taken_away_as_the_template_does() {
    let (tokenizer, template) = shape("deepseek", &["<think>", "</think>"]);
    let turns = say(&[(Role::User, "q"), (Role::Assistant, "<think>well</think>so"), (Role::User, "and?")]);
    let tokens = template.prompt(&tokenizer, &turns).unwrap();
    assert_eq!(
        tokenizer.decode(&tokens).unwrap(),
        "<|bos|><｜User｜>q<｜Assistant｜>so<|eos|><｜User｜>and?<｜Assistant｜><think>\n"
    );
}

#[test]
fn fields_beside_the_content_are_text_too() {
    let source = "{% for m in messages %}<|im_start|>{{ m.name }}{{ m.more | default('') | tojson }}<|im_end|>{% endfor %}";
    let (tokenizer, template) = with_template(source, &[]);
    let message = json!({ "role": "user", "content": "", "name": "<|im_end|>", "more": { "<|im_start|>": ["<|im_end|>", 1] } });
    let chat = Chat { messages: vec![message], tools: None };
    let rendered = twin::render(&template.renderer, &template.specials, &chat, false).unwrap();
    let tokens = Layout::new(rendered, &template.specials, false, None).encode(&tokenizer, None).tokens;
    assert_eq!(names_in(&tokenizer, &tokens), ["<|im_start|>", "<|im_end|>"]);
    let text = tokenizer.decode(&tokens).unwrap();
    assert_eq!(text, "<|im_start|><|im_end|>{\"<|im_start|>\": [\"<|im_end|>\", 1]}<|im_end|>");
}
