//! How answers end.

use crate::data::Prompter;
use crate::data::messages::{Message, Role};
use crate::progress::Silent;
use crate::tokenizer::Tokenizer;
use crate::tokenizer::chat::with_ours;

fn base() -> Tokenizer {
    let special = ["<|im_start|>", "<|im_end|>", "<|eom|>", "<|eot|>"].map(str::to_owned);
    let documents = ["what is it? it is a ship.\n".to_owned()];
    Tokenizer::train(documents.into_iter().map(Ok), 280, &special, &Silent).unwrap()
}

#[test]
fn all_that_the_files_name_ends_an_answer_and_the_template_says_what_is_learned() {
    let id = |name: &str| base().special(name).unwrap();
    let [end_of_text, im_end, eom, eot] = ["<|endoftext|>", "<|im_end|>", "<|eom|>", "<|eot|>"].map(id);
    let plain = base();
    assert_eq!(Prompter::new(&plain).unwrap().end_tokens(), [end_of_text]);
    let plain = base().with_ends([eom, end_of_text, 9999]);
    let prompter = Prompter::new(&plain).unwrap();
    assert_eq!(prompter.end_tokens(), [end_of_text, eom], "an id that there is no token for cannot be drawn");
    assert_eq!(prompter.answer("a").last(), Some(&end_of_text));

    let chat = with_ours(&base()).unwrap().with_ends([eot, eom, im_end]);
    let prompter = Prompter::new(&chat).unwrap();
    assert_eq!(prompter.end_tokens(), [im_end, end_of_text, eot, eom]);
    assert_eq!(prompter.answer("a").last(), Some(&im_end), "learned is what the template says");
    // What extends a tokenizer keeps them.
    for further in
        [with_ours(&plain).unwrap(), chat.extended(&[]).unwrap(), chat.extended(&["<|x|>".into()]).unwrap()]
    {
        assert!(further.end_tokens().contains(&eom));
    }
}

#[test]
fn an_answer_has_the_tokens_that_stand_after_a_prompt() {
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/chat.json");
    let golden: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(golden).unwrap()).unwrap();
    for golden in golden["templates"].as_array().unwrap() {
        let mut config = golden["tokens"].clone();
        config["chat_template"] = golden["template"].clone();
        let tokenizer = Tokenizer::from_texts(golden["tokenizer"].to_string(), config.to_string()).unwrap();
        if golden["name"] == "ours" {
            continue;
        }
        let prompter = Prompter::new(&tokenizer).unwrap();
        for case in golden["cases"].as_array().unwrap() {
            let messages: Vec<Message> = serde_json::from_value(case["messages"].clone()).unwrap();
            let [asked @ .., Message { role: Role::Assistant, content, .. }] = messages.as_slice() else {
                continue;
            };
            let mut whole = prompter.prompt(asked).unwrap();
            whole.extend(prompter.answer(content));
            let begun = prompter.prompt_to_continue(asked, None, content).unwrap();
            assert_eq!(begun, whole[..whole.len() - 1], "an answer that goes on has no end yet");
            let ids: Vec<u32> = serde_json::from_value(case["ids"].clone()).unwrap();
            assert!(content.trim() != content || ids.starts_with(&whole), "{}: {messages:?}", golden["name"]);
        }
    }
}
