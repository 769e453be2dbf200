"""Makes what `transformers` makes of conversations: crates/gpt/tests/golden/chat.json, ids and assistant masks of six chat
templates, each with a tiny tokenizer of its kind.

usage: python tools/golden_chat.py   (needs `transformers` and `tokenizers`; the fixture names the versions used)
"""

import json
import pathlib
import re

import tokenizers
import transformers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

TEXT = [
    "You are a helpful assistant. Answer briefly.\nsystem\nuser\nassistant\n\nWhat is the capital of France? Paris.\n",
    "def add(a, b):\n    return a + b\n\n\nadd(20, 22) is 42. Count the ships: one, two, three.\n",
    "我是小明 [问题] 我是谁 [答案] 小明\n",
]
CONVERSATIONS = [
    [("user", "What is the capital of France?")],
    [("system", "Answer briefly."), ("user", "Hi!"), ("assistant", "Hello.")],
    [("user", "Count: one, two"), ("assistant", "three"), ("user", "And then?"), ("assistant", "four, five")],
    [
        ("system", "You count ships.\n\nSlowly."),
        ("user", "我是小明 [问题] 我是谁"),
        ("assistant", "小明"),
        ("user", "def add(a, b):"),
        ("assistant", "```\ndef add(a, b):\n    return a + b\n```"),
        ("user", "thanks 👩‍👩‍👧"),
    ],
    [("system", "  spaces around  "), ("user", "\n\n lines \n\n"), ("assistant", "  two spaces, two lines\n\n")],
    [("user", "x"), ("assistant", "\n\nlines first"), ("user", "y"), ("assistant", " ")],
    [("user", 'quotes " and \\ and <b>markup</b> & {{ braces }} {% raw %} 20 < 22'), ("assistant", "<p>&lt;</p>")],
]

TEMPLATES = {
    # What this program gives to a model that has no template.
    "ours": """\
{% for message in messages %}<|im_start|>{{ message.role }}
{% if message.role == 'assistant' %}{% generation %}{{ message.content }}<|im_end|>{% endgeneration %}{% else %}\
{{ message.content }}<|im_end|>{% endif %}{{ '\\n' }}{% endfor %}\
{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}""",
    # On several lines, with a loop that is left early and a namespace.
    "chatml": """\
{%- set ns = namespace(system='', turns=0) -%}
{%- for message in messages -%}
    {%- if message.role != 'system' %}{% continue %}{% endif -%}
    {%- set ns.system = message.content -%}
    {%- break -%}
{%- endfor -%}
{%- if ns.system %}
    {{- '<|im_start|>system\\n' ~ ns.system ~ '<|im_end|>\\n' }}
{%- endif %}
{% for message in messages %}
    {% if message.role == 'system' %}
        {% continue %}
    {% endif %}
    {% if message.role == 'user' %}
<|im_start|>user
{{ message.content }}<|im_end|>
    {% else %}
<|im_start|>assistant
{% generation %}
{{- message.content }}<|im_end|>
        {%- endgeneration %}

    {% endif %}
{% endfor %}
{%- if add_generation_prompt %}
<|im_start|>assistant
{% endif %}""",
    # Headers, contents trimmed, the day if the program knows it.
    "llama-3": """\
{{- bos_token }}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}{% set date_string = strftime_now('%d %b %Y')[:0] + '26 Jul 2024' %}{% endif %}
{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content'] | trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = '' %}
{%- endif %}
{{- '<|start_header_id|>system<|end_header_id|>\\n\\nToday: ' + date_string + '\\n' }}
{{- system_message }}{{ '<|eot_id|>' }}
{%- for message in messages %}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' }}
    {%- if message['role'] == 'assistant' %}
        {%- generation %}{{- message['content'] | trim }}{{ '<|eot_id|>' }}{% endgeneration %}
    {%- else %}
        {{- message['content'] | trim + '<|eot_id|>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}""",
    # Roles that are no special tokens.
    "zephyr": """\
{% for message in messages %}
{% if message['role'] == 'user' %}
{{ '<|user|>\\n' + message['content'] + eos_token }}
{% elif message['role'] == 'system' %}
{{ '<|system|>\\n' + message['content'] + eos_token }}
{% elif message['role'] == 'assistant' %}
{{ '<|assistant|>\\n' }}{% generation %}{{ message['content'] + eos_token }}{% endgeneration +%}
{% endif %}
{% if loop.last and add_generation_prompt %}
{{ '<|assistant|>' }}
{% endif %}
{% endfor %}""",
    # A system message unless there is one.
    "smollm2": """\
{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}\
{{ '<|im_start|>system\\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\\n' }}{% endif %}\
{% if message['role'] == 'assistant' %}{{ '<|im_start|>' + message['role'] + '\\n' }}{% generation %}\
{{ message['content'] + '<|im_end|>' }}{% endgeneration %}{{ '\\n' }}{% else %}\
{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}{% endif %}{% endfor %}\
{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}""",
    # Special tokens that take the white space after them, a macro, and Python's methods.
    "phi-3": """\
{%- macro turn(role, text) -%}
{{ '<|' ~ role ~ '|>\\n' ~ text.strip() }}
{%- endmacro -%}
{%- for message in messages -%}
    {%- if message.role == 'assistant' -%}
        {{ '<|assistant|>\\n' }}{%- generation -%}{{ message.content.strip() ~ '<|end|>' }}{%- endgeneration -%}{{ '\\n' }}
    {%- elif message.get('content') and message.content.split() | length > 0 -%}
        {{ turn(message.role, message.content) ~ '<|end|>\\n' }}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|assistant|>\\n' }}{%- else -%}{{ eos_token }}{%- endif -%}""",
}


def trained(special, *, pre_tokenizer, vocab_size=330, **options):
    """A byte-level tokenizer, learned from TEXT."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    special = [token if isinstance(token, AddedToken) else AddedToken(token, special=True) for token in special]
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, special_tokens=special, show_progress=False, **options)
    tokenizer.train_from_iterator(TEXT, trainer)
    return tokenizer


byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
alphabet = pre_tokenizers.ByteLevel.alphabet()
gpt2 = trained(["<|endoftext|>"], pre_tokenizer=byte_level, initial_alphabet=alphabet)
smollm2 = trained(
    ["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
    pre_tokenizer=pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level]),
    initial_alphabet=alphabet,
)
# Llama 3's pre-tokenizer: lines' ends stick together.
PATTERN = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
llama3 = trained(
    ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"],
    pre_tokenizer=pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PATTERN), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    ),
    initial_alphabet=alphabet,
)
phi3 = trained(
    ["<|endoftext|>"] + [AddedToken(f"<|{name}|>", special=True, rstrip=True) for name in ["system", "user", "assistant", "end"]],
    pre_tokenizer=byte_level,
    initial_alphabet=alphabet,
)
# SentencePiece's spaces and byte fallback, as in Llama 2 and Mistral.
bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
mistral = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
mistral.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
mistral.decoder = decoders.Sequence(
    [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
)
mistral.train_from_iterator(
    TEXT,
    trainers.BpeTrainer(
        vocab_size=380, limit_alphabet=50, special_tokens=["<unk>", "<s>", "</s>", *bytes_], show_progress=False
    ),
)
file = json.loads(mistral.to_str())
file["added_tokens"] = [token for token in file["added_tokens"] if token["content"] not in bytes_]
mistral = Tokenizer.from_str(json.dumps(file))

end_of_text = {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"}
im_end = {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>"}
KINDS = {
    "ours": (gpt2, {"bos_token": "<|endoftext|>", "eos_token": "<|im_end|>"}),
    "chatml": (smollm2, im_end),
    "llama-3": (llama3, {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"}),
    "zephyr": (mistral, {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}),
    "smollm2": (smollm2, im_end),
    "phi-3": (phi3, end_of_text),
}


def kind(name):
    library, tokens = KINDS[name]
    base = json.loads(library.to_str())
    if name == "ours":
        library = Tokenizer.from_str(library.to_str())
        library.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=library, **tokens)
    tagged = TEMPLATES[name]
    cases = []
    for conversation in CONVERSATIONS:
        messages = [{"role": role, "content": content} for role, content in conversation]
        is_prompt = messages[-1]["role"] == "user"
        out = tokenizer.apply_chat_template(
            messages,
            chat_template=tagged,
            add_generation_prompt=is_prompt,
            return_dict=True,
            return_assistant_tokens_mask=True,
        )
        ids, mask = out["input_ids"], out["assistant_masks"]
        if name == "ours":
            plain = re.sub(r"\{% (end)?generation %\}", "", tagged)
            again = tokenizer.apply_chat_template(messages, chat_template=plain, add_generation_prompt=is_prompt)
            assert again["input_ids"] == ids
        cases.append({"messages": messages, "ids": ids, "mask": mask})
    return {"name": name, "tokenizer": base, "tokens": tokens, "template": tagged, "cases": cases}


golden = {
    "made_by": f"tools/golden_chat.py with transformers {transformers.__version__}, tokenizers {tokenizers.__version__}",
    "templates": [kind(name) for name in TEMPLATES],
}
path = pathlib.Path(__file__).parent.parent / "crates/gpt/tests/golden/chat.json"
path.write_text(json.dumps(golden, ensure_ascii=False) + "\n", encoding="utf-8")
print(f"{path}: {path.stat().st_size} bytes")
for template in golden["templates"]:
    case = template["cases"][3]
    print(template["name"], len(case["ids"]), sum(case["mask"]), sum(len(c["ids"]) for c in template["cases"]))
