"""Makes what `transformers` makes of conversations: crates/text/tests/golden/chat.json, ids and assistant masks of seven chat
templates, each with a tiny tokenizer of its kind, and ids of many more shapes of templates with one tokenizer.

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

# Only the very first piece gets the space of SentencePiece.
TEMPLATES["first"] = """\
{% for message in messages %}<|{{ message['role'] }}|>
{% if message['role'] == 'assistant' %}{% generation %}{{ message['content'] }}</s>{% endgeneration %}{% else %}\
{{ message['content'] }}</s>{% endif %}{{ '\\n' }}{% endfor %}{% if add_generation_prompt %}<|assistant|>
{% endif %}"""

# In the manner of families of models; and templates that look closely at what is said.
SHAPES = {
    "llama-2": """\
{% if messages[0]['role'] == 'system' %}{% set rest = messages[1:] %}{% set system = messages[0]['content'] %}\
{% else %}{% set rest = messages %}{% set system = false %}{% endif %}\
{% for message in rest %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}\
{{ raise_exception('roles must take turns') }}{% endif %}\
{% if loop.index0 == 0 and system != false %}{% set content = '<<SYS>>\\n' + system + '\\n<</SYS>>\\n\\n' + message['content'] %}\
{% else %}{% set content = message['content'] %}{% endif %}\
{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}\
{% elif message['role'] == 'assistant' %}{{ ' ' + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}""",
    "mistral": """\
{%- if messages[0]["role"] == "system" %}{%- set system = messages[0]["content"] %}{%- set loop_messages = messages[1:] %}
{%- else %}{%- set loop_messages = messages %}{%- endif %}
{%- set users = loop_messages | selectattr("role", "equalto", "user") | list %}
{{- bos_token }}
{%- for message in loop_messages %}
    {%- if message["role"] == "user" %}
        {%- if loop.last and system is defined %}{{- "[INST] " + system + "\\n\\n" + message["content"] + "[/INST]" }}
        {%- else %}{{- "[INST] " + message["content"] + "[/INST]" }}{%- endif %}
    {%- elif message["role"] == "assistant" %}{{- " " + message["content"] | trim + eos_token }}
    {%- else %}{{- raise_exception("only users and assistants, of " ~ users | length) }}{%- endif %}
{%- endfor %}""",
    "gemma": """\
{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}\
{% for message in messages %}{% if (message['role'] == 'assistant') %}{% set role = 'model' %}{% else %}{% set role = message['role'] %}\
{% endif %}{{ '<start_of_turn>' + role + '\\n' + message['content'] | trim + '<end_of_turn>\\n' }}{% endfor %}\
{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}""",
    "gemma-3": """\
{{ bos_token }}
{%- if messages[0]['role'] == 'system' -%}
    {%- if messages[0]['content'] is string -%}{%- set prefix = messages[0]['content'] + '\\n\\n' -%}
    {%- else -%}{%- set prefix = messages[0]['content'][0]['text'] + '\\n\\n' -%}{%- endif -%}
    {%- set loop_messages = messages[1:] -%}
{%- else -%}{%- set prefix = "" -%}{%- set loop_messages = messages -%}{%- endif -%}
{%- for message in loop_messages -%}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}{{ raise_exception("take turns") }}{%- endif -%}
    {%- set role = "model" if message['role'] == 'assistant' else message['role'] -%}
    {{ '<start_of_turn>' + role + '\\n' + (prefix if loop.first else "") }}
    {%- if message['content'] is string -%}{{ message['content'] | trim }}
    {%- elif message['content'] is iterable -%}{%- for item in message['content'] -%}{{ item['text'] | trim }}{%- endfor -%}
    {%- else -%}{{ raise_exception("what is this") }}{%- endif -%}
    {{ '<end_of_turn>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<start_of_turn>model\\n' }}{%- endif -%}""",
    "qwen-2": """\
{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}\
{{ '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}{% endif %}\
{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}{% endfor %}\
{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}""",
    "qwen-3": """\
{%- if messages[0].role == 'system' %}{{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}{%- endif %}
{%- set ns = namespace(multi_step_tool=true, last_query_index=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi_step_tool and message.role == "user" and message.content is string and not(message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}
        {%- set ns.multi_step_tool = false %}
        {%- set ns.last_query_index = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.content is string %}{%- set content = message.content %}{%- else %}{%- set content = '' %}{%- endif %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {%- set reasoning_content = '' %}
        {%- if message.reasoning_content is string %}
            {%- set reasoning_content = message.reasoning_content %}
        {%- else %}
            {%- if '</think>' in content %}
                {%- set reasoning_content = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
                {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
            {%- endif %}
        {%- endif %}
        {%- if loop.index0 > ns.last_query_index %}
            {%- if loop.last or (not loop.last and reasoning_content) %}
                {{- '<|im_start|>' + message.role + '\\n<think>\\n' + reasoning_content.strip('\\n') + '\\n</think>\\n\\n' + content.lstrip('\\n') }}
            {%- else %}
                {{- '<|im_start|>' + message.role + '\\n' + content }}
            {%- endif %}
        {%- else %}
            {{- '<|im_start|>' + message.role + '\\n' + content }}
        {%- endif %}
        {{- '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}
{%- endif %}""",
    "phi-4": """\
{% for message in messages %}{% if (message['role'] == 'system') %}{{'<|im_start|>system<|im_sep|>' + message['content'] + '<|im_end|>'}}\
{% elif (message['role'] == 'user') %}{{'<|im_start|>user<|im_sep|>' + message['content'] + '<|im_end|>'}}\
{% elif (message['role'] == 'assistant') %}{{'<|im_start|>assistant<|im_sep|>' + message['content'] + '<|im_end|>'}}{% endif %}{% endfor %}\
{% if add_generation_prompt %}{{ '<|im_start|>assistant<|im_sep|>' }}{% endif %}""",
    "deepseek": """\
{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}\
{% set ns = namespace(is_first=false, system_prompt='', is_first_sp=true) %}\
{%- for message in messages %}{%- if message['role'] == 'system' %}\
{%- if ns.is_first_sp %}{% set ns.system_prompt = ns.system_prompt + message['content'] %}{% set ns.is_first_sp = false %}\
{%- else %}{% set ns.system_prompt = ns.system_prompt + '\\n\\n' + message['content'] %}{%- endif %}{%- endif %}{%- endfor %}\
{{ bos_token }}{{ ns.system_prompt }}\
{%- for message in messages %}{%- if message['role'] == 'user' %}{{'<｜User｜>' + message['content']}}{%- endif %}\
{%- if message['role'] == 'assistant' and message['content'] is not none %}{% set content = message['content'] %}\
{% if '</think>' in content %}{% set content = content.split('</think>')[-1] %}{% endif %}\
{{'<｜Assistant｜>' + content + eos_token}}{%- endif %}{%- endfor -%}\
{% if add_generation_prompt %}{{'<｜Assistant｜><think>\\n'}}{% endif %}""",
    "command-r": """\
{{ bos_token }}{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}{% set system_message = messages[0]['content'] %}\
{% elif false == true %}{% set loop_messages = messages %}{% set system_message = 'You are here to help.' %}\
{% else %}{% set loop_messages = messages %}{% set system_message = false %}{% endif %}\
{% if system_message != false %}{{ '<|START_OF_TURN_TOKEN|><|SYSTEM_TOKEN|>' + system_message + '<|END_OF_TURN_TOKEN|>' }}{% endif %}\
{% for message in loop_messages %}{% set content = message['content'] %}\
{% if message['role'] == 'user' %}{{ '<|START_OF_TURN_TOKEN|><|USER_TOKEN|>' + content.strip() + '<|END_OF_TURN_TOKEN|>' }}\
{% elif message['role'] == 'assistant' %}{{ '<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>'  + content.strip() + '<|END_OF_TURN_TOKEN|>' }}{% endif %}\
{% endfor %}{% if add_generation_prompt %}{{ '<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>' }}{% endif %}""",
    "tulu": """\
{% for message in messages %}{{ '<|' + message['role'] + '|>\\n' + message['content'] + ('\\n' if message['role'] != 'assistant' else eos_token) }}\
{% if not loop.last and message['role'] == 'assistant' %}{{ '\\n' }}{% endif %}\
{% if loop.last and add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}{% endfor %}""",
    "neighbours": """\
{%- for m in messages %}{%- if loop.previtem is defined and loop.previtem.role == 'system' %}\
{{- '<|im_start|>' + m.role + '\\n' + loop.previtem.content + '\\n\\n' + m.content }}<|im_end|>
{% elif m.role != 'system' %}<|im_start|>{{ m.role }}
{{ m.content }}{{ '' if loop.nextitem is defined else '!' }}<|im_end|>
{% endif %}{%- endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}""",
    "lengths": """\
{% for m in messages %}<|im_start|>{{ m.role }} {{ m.content | length }} {{ m.content.split() | length }}
{{ m.content[:3] }}…{{ m.content[3:-2] }}…{{ m.content[-2:] }}<|im_end|>
{% endfor %}""",
    "equals": """\
{% for m in messages %}<|im_start|>{% if m.content == 'two' %}2{% elif m.content.startswith('one') %}1{% elif m.content in ['x', 'y'] %}xy\
{% endif %}{{ m.content }}{% if m.content.endswith('three') or '```' in m.content %}!{% endif %}<|im_end|>
{% endfor %}""",
    "sequence": """\
{% for m in messages %}<|im_start|>{% if m.content is sequence and m.content is not string %}P{% elif m.content is sequence %}S\
{% else %}?{% endif %}{{ m.content }}<|im_end|>{% endfor %}""",
    "percent": """\
{% for m in messages %}{{ '<|im_start|>%s (%d)\\n%s<|im_end|>\\n' % (m.role, loop.index, m.content) }}{{ '%5.1f%%' % (loop.index / 3) }}{% endfor %}""",
    "json": """\
{% for m in messages %}<|im_start|>{{ m | tojson }}{{ m.content | tojson(indent=2) }}<|im_end|>{% endfor %}\
{{ messages | tojson(indent=1, separators=(',', ':'), sort_keys=true) }}""",
    "ascii": "{% for m in messages %}<|im_start|>{{ m.content | tojson(ensure_ascii=true) }}<|im_end|>{% endfor %}",
    "methods": """\
{% for m in messages %}<|im_start|>{{ m.role.removeprefix('us') }}{{ m.role.partition('s')[2] }}{{ (loop.index ~ '').zfill(3) }}
{{ m.content.rpartition(' ')[2] }}|{{ m.content.rsplit(' ', 1)[-1].ljust(6) }}|{{ m.content.removesuffix('.') }}|\
{{ m.content.splitlines() | join(' / ') }}|{{ m.content.find('a') }}<|im_end|>{% endfor %}""",
    "shouting": "{% for m in messages %}<|im_start|>{{ m.content.upper() }}{{ m.content | title }}{{ m.content | capitalize }}<|im_end|>{% endfor %}",
    "lines": """\
{% for m in messages %}<|im_start|>{% for line in m.content.split('\\n') if line.strip() %}{{ loop.index }}. {{ line.strip() }}
{% endfor %}<|im_end|>{% endfor %}""",
    "clean": """\
{% for m in messages %}{% set content = m.content.replace('<|im_end|>', '').replace('<|im_start|>', '') %}\
<|im_start|>{{ m.role }}
{{ content }}<|im_end|>{% endfor %}""",
    "needs-system": """\
{% if messages[0].role != 'system' %}{{ raise_exception('a system message must come first') }}{% endif %}{% for m in messages %}\
<|im_start|>{{ m.role }}
{{ m.content }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}""",
    "captured": """\
{% macro say(role, text) %}<|im_start|>{{ role }}
{{ text }}<|im_end|>{% endmacro %}{% set all %}{% for m in messages %}{{ say(m.role, m.content) }}
{% endfor %}{% endset %}{{ all.strip() }}{{ all | length }}""",
    "same": """\
{% for m in messages %}<|im_start|>{% if not loop.first and m.content == messages[loop.index0 - 1].content %}again{% else %}{{ m.content }}\
{% endif %}{{ m.content.count('o') }}{{ m.content | wordcount }}<|im_end|>{% endfor %}""",
    "sorted": "{% for m in messages | sort(attribute='role') %}<|im_start|>{{ m.role }}{{ m.content | truncate(12) }}<|im_end|>{% endfor %}",
}
ODD_CONVERSATIONS = [
    [("user", "one two three")],
    [("user", "two")],
    [("user", "one"), ("assistant", "two"), ("user", "three")],
    [("user", "x"), ("assistant", "y"), ("user", "y"), ("assistant", "y")],
    [("user", "<tool_response>42</tool_response>"), ("assistant", "It is 42.")],
    [("user", "Add."), ("assistant", "<think>\nwell\n</think>\n\nIt is 42."), ("user", "<tool_response>\n7\n</tool_response>")],
    [("user", "Add."), ("assistant", "<think>a</think>b"), ("user", "And?"), ("assistant", "<think>c</think>\n\nd")],
    [("user", "user"), ("assistant", "assistant"), ("user", "im_end")],
    [("system", "Answer."), ("user", "a < b, c > d | e"), ("assistant", "[1, 2] and <s\u00e9>")],
    [("user", "```\ncode\n```"), ("assistant", "'quoted' \"twice\" \\ 100%")],
]


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

# SentencePiece's spaces, the first at the very beginning only.
first = Tokenizer.from_str(mistral.to_str())
first.normalizer = None
first.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="first", split=False)
turns = "bos eos START_OF_TURN_TOKEN END_OF_TURN_TOKEN USER_TOKEN CHATBOT_TOKEN SYSTEM_TOKEN user assistant system end im_sep".split()
shaped = trained(
    ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<s>", "</s>", "[INST]", "[/INST]", "<start_of_turn>", "<end_of_turn>"]
    + ["<｜User｜>", "<｜Assistant｜>"]
    + [f"<|{name}|>" for name in turns],
    pre_tokenizer=byte_level,
    vocab_size=360,
    initial_alphabet=alphabet,
)

end_of_text = {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"}
im_end = {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>"}
KINDS = {
    "ours": (gpt2, {"bos_token": "<|endoftext|>", "eos_token": "<|im_end|>"}),
    "chatml": (smollm2, im_end),
    "llama-3": (llama3, {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"}),
    "zephyr": (mistral, {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}),
    "smollm2": (smollm2, im_end),
    "phi-3": (phi3, end_of_text),
    "first": (first, {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}),
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


SHAPED = {"bos_token": "<|bos|>", "eos_token": "<|eos|>"}


def shape(name):
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=shaped, **SHAPED)
    cases = []
    for conversation in CONVERSATIONS + ODD_CONVERSATIONS:
        messages = [{"role": role, "content": content} for role, content in conversation]
        options = {"chat_template": SHAPES[name], "add_generation_prompt": messages[-1]["role"] == "user"}
        try:
            cases.append({"messages": messages, "ids": tokenizer.apply_chat_template(messages, **options)["input_ids"]})
        except Exception as error:
            cases.append({"messages": messages, "error": str(error)})
    return {"name": name, "template": SHAPES[name], "cases": cases}


golden = {
    "made_by": f"tools/golden_chat.py with transformers {transformers.__version__}, tokenizers {tokenizers.__version__}",
    "templates": [kind(name) for name in TEMPLATES],
    "shaped": {"tokenizer": json.loads(shaped.to_str()), "tokens": SHAPED},
    "shapes": [shape(name) for name in SHAPES],
}
path = pathlib.Path(__file__).parent.parent / "crates/text/tests/golden/chat.json"
path.write_text(json.dumps(golden, ensure_ascii=False) + "\n", encoding="utf-8")
print(f"{path}: {path.stat().st_size} bytes")
for template in golden["templates"]:
    case = template["cases"][3]
    print(template["name"], len(case["ids"]), sum(case["mask"]), sum(len(c["ids"]) for c in template["cases"]))
