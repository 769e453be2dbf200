//! The token that stands before every text, where a tokenizer's files ask for one: Llama's and Gemma's do,
//! and such models have learned to begin with it.

use super::Tokenizer;
use serde_json::Value;

/// Its name: as `tokenizer.json` has it added, or as `tokenizer_config.json` tells its class to.
pub(super) fn name<'a>(post_processor: &'a Value, config: &'a Value) -> Option<&'a str> {
    let first = |part: &'a Value| part["single"][0]["SpecialToken"]["id"].as_str();
    let parts = post_processor["processors"].as_array().into_iter().flatten();
    let added = first(post_processor).or_else(|| parts.into_iter().find_map(first));
    let bos = &config["bos_token"];
    added.or_else(|| bos.as_str().or(bos["content"].as_str()).filter(|_| config["add_bos_token"] == true))
}

impl Tokenizer {
    /// The token that stands before every text, if its files ask for one.
    pub fn start(&self) -> Option<u32> {
        self.start
    }

    /// The tokens of a text that nothing stands before: [`start`](Self::start), if there is one, and those of
    /// the text.
    pub fn encode_from_start(&self, text: &str) -> Vec<u32> {
        self.start.into_iter().chain(self.encode(text)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Silent;
    use serde_json::json;

    #[test]
    fn a_text_begins_with_what_the_files_ask_for() {
        let plain =
            Tokenizer::train(["a text".to_owned()].map(Ok).into_iter(), 300, &["<s>".to_owned()], &Silent);
        let plain = plain.unwrap();
        let (id, text) = (plain.special("<s>").unwrap(), plain.encode("a text"));
        assert_eq!((plain.start(), plain.encode_from_start("a text")), (None, text.clone()));

        let template = json!({
            "type": "TemplateProcessing", "single": [
                { "SpecialToken": { "id": "<s>", "type_id": 0 } }, { "Sequence": { "id": "A", "type_id": 0 } },
            ],
            "pair": [], "special_tokens": { "<s>": { "id": "<s>", "ids": [id], "tokens": ["<s>"] } },
        });
        let mut json: Value = serde_json::from_str(plain.to_json()).unwrap();
        let with = |json: &Value, config: Value| {
            Tokenizer::from_texts(json.to_string(), config.to_string()).unwrap()
        };
        let from_start = [&[id][..], &text].concat();
        for config in [json!("<s>"), json!({ "content": "<s>" })] {
            let told = with(&json, json!({ "bos_token": config, "add_bos_token": true }));
            assert_eq!(
                (told.encode("a text"), told.encode_from_start("a text")),
                (text.clone(), from_start.clone())
            );
            let untold = with(&json, json!({ "bos_token": config }));
            assert_eq!(untold.start(), None);
        }
        let nowhere = with(&json, json!({ "bos_token": "<begin>", "add_bos_token": true }));
        assert_eq!(nowhere.start(), None, "what is not in the vocabulary cannot stand there");
        json["post_processor"] = template.clone();
        assert_eq!(with(&json, json!({})).encode_from_start("a text"), from_start);
        json["post_processor"] =
            json!({ "type": "Sequence", "processors": [json["pre_tokenizer"], template] });
        assert_eq!(with(&json, json!({})).start(), Some(id));
    }
}
