"""What `transformers` makes of conversations with tools.

    tools/golden_chat_tools.py                      mynah's own template, into crates/text/tests/golden/chat_tools.json
    tools/golden_chat_tools.py OUT TEMPLATE.jinja…  anybody's templates; the test of the same name reads OUT as well where
                                                    MYNAH_CHAT_TOOLS names it

Needs `pip install transformers jinja2`.
"""

import json
import pathlib
import sys

import tokenizers
import transformers

ROOT = pathlib.Path(__file__).resolve().parent.parent
OURS = ROOT / "crates/text/src/tokenizer/chat/ours.jinja"


def function(name, about, **properties):
    parameters = {"type": "object", "properties": properties, "required": list(properties)}
    return {"type": "function", "function": {"name": name, "description": about, "parameters": parameters}}


TEXT = {"type": "string", "description": "what to work out, such as \"2 + 3\""}
TOOLS = [function("calculator", "Works out a sum.", expression=TEXT)]
TWO = TOOLS + [function("weather", "The weather <in> a place & when.", place={"type": "string"}, days={"type": "integer"})]


def call(name, **arguments):
    return {"type": "function", "function": {"name": name, "arguments": arguments}}


def said(role, content, **more):
    return {"role": role, "content": content, **more}


ASKED = [said("user", "2+2?")]
CALLED = ASKED + [said("assistant", "", tool_calls=[call("calculator", expression="2+2")])]
RETURNED = CALLED + [said("tool", "4", name="calculator")]
TOLD = RETURNED + [said("assistant", "4.")]
SYSTEM = [said("system", "Be brief.")]
SEVERAL = [
    said("user", "1+1 and \"the weather\"?"),
    said("assistant", "I look.", tool_calls=[call("calculator", expression="1+1"), call("weather", place="北京 \\ \"x\"", days=3)]),
    said("tool", "2", name="calculator"),
    said("tool", "{\"rain\": true}", name="weather"),
]
CASES = [(ASKED, TOOLS), (CALLED, TOOLS), (RETURNED, TOOLS), (TOLD, TOOLS), (SYSTEM + TOLD, TOOLS), (TOLD, None)]
CASES += [(SEVERAL, TWO), (SEVERAL + [said("assistant", "2, rain."), said("user", "thanks")], TWO)]


def cases(template):
    blank = tokenizers.Tokenizer(tokenizers.models.BPE(unk_token="<unk>"))
    names = {"bos_token": "<s>", "eos_token": "<|im_end|>", "unk_token": "<unk>"}
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=blank, **names)
    for messages, tools in CASES:
        asks = messages[-1]["role"] in ("user", "tool")
        case = {"messages": messages, "tools": tools, "asks": asks}
        options = {"tools": tools, "chat_template": template, "add_generation_prompt": asks, "tokenize": False}
        try:
            case["text"] = tokenizer.apply_chat_template(messages, **options)
        except Exception as error:
            case["error"] = str(error)
        yield case


def main():
    path, templates = ROOT / "crates/text/tests/golden/chat_tools.json", {"ours": OURS.read_text(encoding="utf-8").rstrip()}
    if len(sys.argv) > 1:
        path, files = pathlib.Path(sys.argv[1]), map(pathlib.Path, sys.argv[2:])
        templates = {file.stem: file.read_text(encoding="utf-8") for file in files}
    made_by = f"tools/golden_chat_tools.py with transformers {transformers.__version__}"
    found = [{"name": name, "template": text, "cases": list(cases(text))} for name, text in templates.items()]
    golden = {"made_by": made_by, "templates": found}
    path.write_text(json.dumps(golden, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    print(f"{path}: {path.stat().st_size} bytes, {', '.join(templates)}")


if __name__ == "__main__":
    main()
