"""Makes what `transformers` makes of expressions in chat templates: crates/text/tests/golden/templates.json, each with the text that
it renders or the fact that it fails.

usage: python tools/golden_templates.py   (needs `transformers`; the fixture names the versions used)
"""

import json
import pathlib

import jinja2
import transformers
from transformers.utils.chat_template_utils import render_jinja_template

MESSAGES = [
    {"role": "system", "content": "be brief"},
    {"role": "user", "content": "one Two  three\nfour"},
    {"role": "assistant", "content": "<think>well</think>\n\nso <b>it</b> is \"é\""},
    {"role": "user", "content": ""},
]
NAMES = {"bos_token": "<s>", "eos_token": "</s>"}

# What stands between {{ and }}; m is the second message, a the third, n a table of all kinds of values.
EXPRESSIONS = """
m.role.partition('s')
m.role.partition('s')[2]
m.role.partition('x')
m.role.rpartition('e')
m.role.rpartition('x')[0] ~ '|'
m.role.removeprefix('us')
m.role.removeprefix('x')
m.role.removesuffix('er')
m.content.rsplit(' ', 1)[-1]
m.content.rsplit(None, 1)
m.content.rsplit()
m.content.rsplit(maxsplit=1)
m.content.split()
m.content.split(' ')
m.content.split(' ', 1)
m.content.split(None, 1)
m.content.split(maxsplit=1)
m.content.split(sep='o')
m.content.split('\\n')[0]
''.split()
''.split(',')
'a,b,,c'.split(',')
'abc'.split('')
'abc'.index('b')
'abc'.index('x')
'abcabc'.rindex('b')
'abcabc'.rfind('b')
'abcabc'.find('b', 2)
'abcabc'.find('b', 2, 4)
'abcabc'.find('x')
'abcabc'.count('b')
'abcabc'.count('b', 2)
'aaa'.count('aa')
'abc'.count('')
[1, 2].index(2)
[1, 2].index(3)
[1, 2, 2].count(2)
(1, 2).index(2)
'a'.ljust(3) ~ '|'
'a'.ljust(3, '*')
'a'.rjust(3) ~ '|'
'a'.rjust(3, '.')
'a'.center(4) ~ '|'
'a'.center(5, '-')
'ab'.center(5, '-')
'7'.zfill(3)
'-7'.zfill(4)
'+7'.zfill(4)
'abc'.zfill(2)
'aBc dEf'.capitalize()
'aBc dEf'.title()
"they're bill's".title()
'aBc dEf'.swapcase()
'aBc'.casefold()
'Straße'.casefold()
'Straße'.upper()
'a\\tb'.expandtabs(4)
'a\\tb'.expandtabs()
'abc'.startswith('ab')
'abc'.startswith(('x', 'ab'))
'abc'.startswith('b', 1)
'abc'.startswith('a', 1)
'abc'.endswith('bc')
'abc'.endswith(('x', 'bc'))
'abc'.endswith('b', 0, 2)
'abc'.startswith('')
'a b'.isspace()
' '.isspace()
''.isspace()
'12'.isdigit()
'1.2'.isdigit()
'²'.isdigit()
'²'.isdecimal()
'½'.isnumeric()
'½'.isdigit()
'a1'.isalnum()
'a 1'.isalnum()
'ab'.isalpha()
'é'.isalpha()
'é'.isascii()
'ab_1'.isidentifier()
'1a'.isidentifier()
'A b'.istitle()
'A B'.istitle()
'ab'.islower()
'AB1'.isupper()
'12'.islower()
'a\\n'.isprintable()
'ab'.isprintable()
' x '.strip() ~ '|'
'xxaxx'.strip('x')
'xyaxy'.lstrip('xy')
'xyaxy'.rstrip('xy')
' x '.lstrip() ~ '|'
' x '.rstrip() ~ '|'
'\\x1f\\u00a0a\\u200b'.strip() | length
'a-b-c'.replace('-', '+')
'a-b-c'.replace('-', '+', 1)
'abc'.replace('', '-')
', '.join(['a', 'b'])
', '.join(m.role)
', '.join([])
', '.join([1, 2])
'a\\nb\\r\\nc'.splitlines()
'a\\nb\\n'.splitlines(true)
'a\\rb\\x0bc\\x0cd\\x1ce\\x85f\\u2028g'.splitlines()
'\\n'.splitlines()
'{} and {}'.format('a', 1)
'{0} {1} {0}'.format('a', 'b')
'{x}'.format(x=1)
'{x:>4}|{y:<4}|{z:^5}'.format(x=1, y='a', z='b')
'{:.2f}'.format(3.14159)
'{:05d}'.format(42)
'{:,}'.format(1234567)
'{{}}'.format()
'{!r}'.format('a')
'%s' % m.role
'%s and %s' % (m.role, a.role)
'%d%%' % 42
'%5.1f|' % 3.14159
'%-5s|' % 'ab'
'%05d' % 42
'%x' % 255
'%r' % 'ab'
'%(role)s' % m
'%s' % 1 + 'x'
'%s' % none
'%s' % true
'%s' % 1.0
'%s' % [1, 'a']
'%s' % ('a',)
'%s %s' % ('a',)
'%s' % ('a', 'b')
'x' ~ '%s' % 'y' ~ 'z'
('a' + '%s') % 'b'
7 % 4
-7 % 4
7.5 % 2
7 * 3 % 4
7 % 4 * 2
loop_count % 2 == 0
2 + 7 % 4
n.int % 2
n.int % 2 == 1 and 'odd' or 'even'
7 // 2
-7 // 2
7 / 2
8 / 2
2 ** 10
2 ** -1
7 - 2 - 1
1 + 2 * 3
1 + 2.0
1e3
1_000
'ab' * 3
3 * 'ab'
[1] * 2
[1] + [2]
(1, 2) + (3,)
'a' + 1
'a' ~ 1
'a' ~ none
'a' ~ true
1 ~ 2.0
-3 | abs
3.0
1.5e20
1e16
1e15
0.1 + 0.2
100000000000000000000
true
none
[true, none, 'a', "it's", 'é\\n', 1.0, 2]
{'a': 1, 'b': [true, none]}
(1, 'a')
(1,)
()
[]
{}
"it's" ~ ['it\\'s "x"']
['\\x00\\u200b']
n.int | tojson
n | tojson
n | tojson(indent=2)
n | tojson(indent=0)
n | tojson(separators=(',', ':'))
n | tojson(separators=(', ', ': '), indent=1)
n | tojson(sort_keys=true)
n | tojson(sort_keys=true, separators=(',', ':'), indent=4)
n | tojson(ensure_ascii=true)
n | tojson(ensure_ascii=false)
n | tojson(true)
n | tojson(false, 2)
'é\\n"\\\\/<>&\\u2028\\x7f\\x01' | tojson
'é😀' | tojson(ensure_ascii=true)
[] | tojson
{} | tojson
[] | tojson(indent=2)
{} | tojson(indent=2)
[[], {}] | tojson(indent=2)
[1, [2, {'a': 3}]] | tojson(indent='\t')
(1, 2) | tojson
1.0 | tojson
1e100 | tojson
1e-7 | tojson
0.1 | tojson
true | tojson
none | tojson
{'b': 1, 'a': 2} | tojson
{1: 2} | tojson
{true: 1, none: 2} | tojson
undefined_name | tojson
m | tojson
messages | tojson | length
'x' | tojson | length
m.content is sequence
m is sequence
messages is sequence
(1, 2) is sequence
1 is sequence
none is sequence
undefined_name is sequence
m.content is iterable
m is iterable
1 is iterable
none is iterable
m.content is mapping
m is mapping
m.content is string
1 is string
none is string
1 is number
1.0 is number
true is number
'1' is number
1 is integer
true is integer
1.0 is integer
1.0 is float
1 is float
true is boolean
1 is boolean
none is none
undefined_name is none
undefined_name is defined
m.content is defined
m.missing is defined
m.missing is undefined
m.missing is none
strftime_now is callable
raise_exception is callable
m is callable
m.role is callable
range is callable
3 is odd
3 is even
6 is divisibleby 3
6 is divisibleby(4)
'a' is in 'abc'
'a' is in(['a'])
1 is eq 1
1 is equalto 1
1 is ne 2
1 is lt 2
2 is gt 1
2 is ge 2
2 is le 1
'ab' is lower
'AB' is upper
true is true
1 is true
false is false
0 is false
'a' is sameas 'a'
none is sameas none
1 is sameas true
'upper' is filter
'nothing' is filter
'odd' is test
'a' is escaped
m.content | length
messages | length
m | length
'' | length
none | length
5 | length
m.content | count
m.content[:5]
m.content[5:]
m.content[-4:]
m.content[::-1]
m.content[::2]
m.content[0]
m.content[-1]
m.content[100]
m.content[1:100]
messages[1:] | length
messages[-1].role
messages[::-1][0].role
messages[1:3] | map(attribute='role') | list
messages[100] is defined
messages | map(attribute='role') | join(', ')
messages | selectattr('role', 'equalto', 'user') | list | length
messages | selectattr('role', 'eq', 'user') | map(attribute='content') | list
messages | rejectattr('role', 'equalto', 'user') | map(attribute='role') | list
messages | selectattr('role', 'in', ['system', 'user']) | list | length
messages | selectattr('tool_calls') | list
messages | selectattr('tool_calls', 'defined') | list
messages | map(attribute='missing', default='x') | list
messages | groupby('role') | map('first') | list
messages | map('length') | list
['a', 'b'] | map('upper') | join
['a', '', none, 0] | select | list
[1, 2, 3] | reject('odd') | list
[3, 1, 2] | sort
[3, 1, 2] | sort(reverse=true)
['b', 'A', 'c'] | sort
['b', 'A', 'c'] | sort(case_sensitive=true)
messages | sort(attribute='role') | map(attribute='role') | list
[1, 2, 2, 3] | unique | list
['a', 'A'] | unique | list
[1, 2] | sum
[1, 2] | min
[1, 2] | max
[] | max
[1, 2] | first
[1, 2] | last
[] | first
'abc' | first
'abc' | last
[1, 2] | reverse | list
'abc' | reverse
[1, 2, 3] | batch(2) | list
[1, 2, 3] | batch(2, 0) | list
[1, 2, 3] | slice(2) | list
'abc' | list
m | list
'a b' | wordcount
"one two-three it's" | wordcount
'a' | center(5)
'a' | center
'a b c d' | truncate(5)
'a b c d e f g h' | truncate(9, true)
'a b c d e f g h' | truncate(9, false, '…')
'a b c d' | wordwrap(4)
'a\\nb' | indent
'a\\nb' | indent(2, true)
'a\\n\\nb' | indent(2, blank=true)
'a\\nb' | indent('> ')
' a ' | trim ~ '|'
'xax' | trim('x')
'a b' | title
"they're" | title
'a-b_c (d) [e] {f} <g>' | title
'hELLO wORLD' | capitalize
'a' | upper
'A' | lower
'a-a' | replace('a', 'b')
'a-a' | replace('a', 'b', 1)
1 | string + 'x'
'5' | int + 1
'x' | int
'x' | int(7)
'5.7' | int
'0x1f' | int(0, 16)
5.7 | int
none | int
'5' | float
'x' | float
3.567 | round
3.567 | round(1)
3.2 | round(0, 'ceil')
3.7 | round(method='floor')
2.5 | round
42 | round
true | int
true | string
none | default('x')
undefined_name | default('x')
undefined_name | default
'' | default('x')
'' | default('x', true)
none | default('x', boolean=true)
undefined_name | d('x')
m | items | list
m.items() | list
m.keys() | list
m.values() | list
m.get('role')
m.get('missing')
m.get('missing', 'x')
m['missing'] is defined
{'b': 1, 'a': 2} | dictsort
{'b': 1, 'a': 2} | dictsort(by='value')
{'b': 1, 'a': 2} | dictsort(reverse=true)
{'b': 1, 'a': 2} | list
{'b': 1, 'a': 2}.items() | list
dict(a=1, b=2)
dict([('a', 1)])
'%s-%s' | format('a', 'b')
'%d' | format(5)
'<a>&\\'"' | e
'<a>&' | escape
'<a>' | safe
'<a>' | forceescape
'<p>a  <b>b</b></p>' | striptags
'a b/c?d=é' | urlencode
{'a': 1, 'b c': 'd'} | urlencode
1000000 | filesizeformat
1536 | filesizeformat(true)
messages | attr('x') is defined
m | attr('role') is defined
'abc' | pprint
{'class': 'x'} | xmlattr
range(3) | list
range(1, 7, 2) | list
range(3)
range(5, 0, -1) | list
range(3) | length
'a' in 'abc'
'x' not in 'abc'
'role' in m
'user' in ['user']
1 in [1, 2]
1 in {1: 2}
not true
not ''
1 < 2 < 3
1 < 3 < 2
1 == 1.0
'1' == 1
true == 1
none == false
'a' < 'b'
[1, 2] == [1, 2]
(1, 2) == [1, 2]
{'a': 1} == {'a': 1}
m == messages[1]
m.content == 'one Two  three\\nfour'
m.content != ''
1 < 'a'
'a' if true else 'b'
'a' if false
'x' if m.missing else 'y'
m.missing
m.missing.deeper
undefined_name
undefined_name.deeper
undefined_name ~ 'x'
undefined_name + 'x'
undefined_name == none
undefined_name | length
undefined_name in ['a']
not undefined_name
true and 'a'
false or 'b'
'' or 'c'
1 and 0
0 or none
none or none
'a' 'b'
'a' "b" ~ 'c'
'\\u00e9\\x41\\t|'
'\\d'
"a'b"
'a\\'b'
'a\\\\nb'
"{{ x }}" ~ '{% y %}'
[1, 2][0]
{'a': {'b': 1}}.a.b
{'a': {'b': 1}}['a']['b']
(1, 2)[1]
{'items': 1}['items']
{'items': 1}.items is callable
{'keys': 5}['keys']
a.content.split('</think>')[-1].lstrip('\\n')
a.content.split('</think>')[0].split('<think>')[-1]
'</think>' in a.content
a.content.startswith('<think>')
a.content.endswith('"')
(a.content.split('</think>') | first).strip()
messages[0]['role'] == 'system'
messages[0].content.strip() + '\\n'
bos_token + eos_token
bos_token
pad_token is defined
tools is none
tools is defined
documents is none
documents is defined
add_generation_prompt
(not tools)
tools | default([])
tools or 'x'
date_string is defined
builtin_tools is defined
namespace(a=1).a
joiner(', ')() ~ 'x'
cycler('a', 'b').next()
lipsum is defined
lipsum is callable
m.content.upper
m.content.nothing()
m.update({'a': 1})
messages.append(1)
messages.pop()
m.copy()
messages.copy() | length
m.__class__
m.content.__len__()
self is defined
m.content.encode('utf-8')
m.role.translate({})
'a,b'.split(',') | list | tojson
'a' is not none
m.role not in ['x', 'y']
m.role is not in ['x', 'y']
-1
+1
--1
not not 1
1 if 2 else 3 if 4 else 5
[x for x in messages]
(messages | first).role
messages | map(attribute='content') | map('length') | sum
messages | last | attr('role')
[['a', 1], ['b', 2]] | map(first) | list
[['a', 1], ['b', 2]] | map('first') | list
'a' | map('upper') | list
' a  b '.split(' ')
'é' | length
'👩‍👩‍👧' | length
'👩‍👩‍👧'[0] | length
'ǆ'.title() | length
'ŉ'.upper()
'İ'.lower() | length
'ß'.title()
'ΑΣ'.lower()
'a' is none or 'b'
n.float
n.big
n.neg
n.list
n.table
n.text
n.nothing
n.yes
n
n.table.x
n.list[0] + n.int
n.float * 2
n.int / 2
n.int // 2
n.big + 1
1.0 * 3
10 ** 20
1 / 3
1e-5
123456789.123
'%.3f' % 0.5
'%s' % n.float
'%s' % {'a': 1}
'%i' % 3.7
'%e' % 12345.678
'%g' % 0.00001
'%c' % 'a'
'%5s|%-5s|' % ('a', 'b')
'%+d' % 5
'%q' % 5
'%s' % m.missing
""".strip().split("\n")

# Whole templates.
TEMPLATES = [
    "{% for x in messages %}{{ loop.previtem.role }}<{{ x.role }}>{{ loop.nextitem.role }} {% endfor %}",
    "{% for x in messages %}{% if loop.previtem is defined %}p{% endif %}{% if loop.nextitem is defined %}n{% endif %},{% endfor %}",
    "{% for x in messages if x.role == 'user' %}{{ loop.index }}/{{ loop.length }} {{ loop.first }} {{ loop.last }} {{ loop.revindex }} {{ loop.previtem is defined }};{% endfor %}",
    "{% for x in messages %}{{ loop.index0 }}{{ loop.revindex0 }}{{ loop.depth }}{{ loop.cycle('a', 'b') }}{{ loop.changed(x.role) }} {% endfor %}",
    "{% for k, v in m.items() %}{{ k }}={{ v }};{% endfor %}",
    "{% for k in m %}{{ k }};{% endfor %}",
    "{% for k, v in n.table | dictsort %}{{ k }}={{ v }};{% endfor %}",
    "{% for c in 'abc' %}{{ c }}-{% endfor %}",
    "{% for x in [] %}a{% else %}none{% endfor %}",
    "{% for x in undefined_name %}a{% else %}none{% endfor %}",
    "{% for x in none %}a{% endfor %}",
    "{% for x in 5 %}a{% endfor %}",
    "{% for x in messages %}{% if loop.index == 2 %}{% continue %}{% endif %}{% if loop.index == 4 %}{% break %}{% endif %}{{ x.role }} {% endfor %}",
    "{% for a, (b, c) in [(1, (2, 3))] %}{{ a }}{{ b }}{{ c }}{% endfor %}",
    "{% for x in messages recursive %}{{ x.role }}{% if loop.depth < 2 %}{{ loop(messages[:1]) }}{% endif %} {% endfor %}",
    "{% set a, b = 1, 2 %}{{ a }}{{ b }}",
    "{% set a = 1, 2 %}{{ a }}",
    "{% set x %}a {{ m.role }} b{% endset %}[{{ x }}]{{ x | length }}",
    "{% set x | upper %}abc{% endset %}{{ x }}",
    "{% set x = 1 %}{% for i in [1] %}{% set x = 2 %}{{ x }}{% endfor %}{{ x }}",
    "{% set x = 1 %}{% if true %}{% set x = 2 %}{% endif %}{{ x }}",
    "{% set ns = namespace(x=1) %}{% for i in [1, 2] %}{% set ns.x = ns.x + i %}{% endfor %}{{ ns.x }}",
    "{% set ns = namespace({'x': 1}, y=2) %}{{ ns.x }}{{ ns.y }}",
    "{% macro f(a, b='x', c=none) %}{{ a }}{{ b }}{{ c }}{% endmacro %}{{ f(1) }} {{ f(1, 2) }} {{ f(c=3, a=1) }} {{ f() }}",
    "{% macro f(a) %}[{{ a }}|{{ varargs }}|{{ kwargs }}]{% endmacro %}{{ f(1, 2, x=3) }}",
    "{% macro f(a) %}<{{ caller() }}{{ a }}>{% endmacro %}{% call f(1) %}body{% endcall %}",
    "{% macro f(x) %}{{ x }}{% if x > 0 %}{{ f(x - 1) }}{% endif %}{% endmacro %}{{ f(3) }}",
    "{% macro f() %}{{ m.role }}{{ bos_token }}{% endmacro %}{{ f() ~ f() }}",
    "{% macro f() %}a{% endmacro %}{{ f() | upper }}{{ f() | length }}",
    "{% with a = 1, b = 2 %}{{ a + b }}{% endwith %}",
    "{% filter upper %}abc{% endfilter %}",
    "{% raw %}{{ x }}{% y %}{% endraw %}",
    "{# a comment {{ x }} #}b",
    "  {% if true %}\n  a\n  {% endif %}\nb\n",
    "  {%- if true -%}\n  a\n  {%- endif -%}\nb\n\n",
    "a\n\n  {%+ if true +%}\n  b\n  {% endif %}\n",
    "a  {{- 'x' -}}  b",
    "a\n{{ 'x' }}\nb\n",
    "a\n{# c #}\nb\n",
    "a\n  {# c #}  \nb\n",
    "a {%- raw -%} b {%- endraw -%} c",
    "{% if m.role == 'system' %}a{% elif m.role == 'user' and not tools %}b{% else %}c{% endif %}",
    "{{ raise_exception('no') }}",
    "{% generation %}a{% endgeneration %}b",
    "{%- generation -%}\n a \n{%- endgeneration -%}\nb",
    "{% for x in messages %}\n{% generation %}\n{{ x.role }}\n{% endgeneration %}\n{% endfor %}",
    "{{ '{% generation %}' }}",
    "{{ \"{% generation %}\" }}{# {% generation %} #}{% raw %}{% generation %}{% endraw %}",
    "{% generation %}{% set x = 1 %}{{ x }}{% endgeneration %}{{ x }}",
    "{% set x = 0 %}{% generation %}{% set x = 1 %}{{ x }}{% endgeneration %}{{ x }}",
    "{% set ns = namespace(x=0) %}{% generation %}{% set ns.x = 1 %}{% endgeneration %}{{ ns.x }}",
    "{{ '%s' % m.role }}{{ 5 %2 }}{{ 5%2 }}{{'%d'%3}}",
    "{%- set x = '%s' % 'a' -%}{{ x }}{% if 5 % 2 %}odd{% endif %}",
    "{% for x in messages %}{{ 'a' if loop.index0 % 2 == 0 else 'b' }}{% endfor %}",
    "{% for x in messages %}{% if (x.role == 'user') != (loop.index0 % 2 == 1) %}!{% endif %}{% endfor %}",
    "{% if (messages | length) % 2 %}odd{% else %}even{% endif %}",
    "{{ messages[0].content.split(' ')[1] % 2 }}",
    "{{ ('a' ~ '%s') % 'b' ~ '%d' % 5 }}",
    "{{ '%s' % messages[1]['role'].upper() | lower }}",
    "{{ n['list'][0] % 2 + -n.int % 4 }}",
    "{{ not 4 % 2 }}{{ 2 ** 3 % 5 }}{{ 5 % 2 ** 2 }}",
    "{{ {'a': '%s' % 'b', 'c': 7 % 4}['a'] }}{{ [7 % 4, '%s' % 'x'] }}",
    "{{ m.content | replace('%', '') }}{{ '%' in '5%' }}{{ '5 % 2' }}",
    "{% set fmt = '%s: %s' %}{% for x in messages %}{{ fmt % (x.role, x.content[:3]) }};{% endfor %}",
    "{% do messages %}",
    "{% include 'x' %}",
    "{% extends 'x' %}",
    "{% import 'x' as y %}",
    "{% block x %}a{% endblock %}",
    "{% autoescape true %}{{ '<' }}{% endautoescape %}",
    "{% set x = ['a'] %}{% set _ = x.append('b') %}{{ x }}",
    "{% set first = messages | first %}{{ first.role }}",
    "{% set loop_messages = messages[1:] %}{% for message in loop_messages %}{% set content = '<<' + message['content'].strip() + '>>' if loop.first else message.content %}{{ content }}{% endfor %}",
    "{{ messages[0]['content'] if messages and messages[0]['role'] == 'system' else 'default' }}",
    "{% if messages[0]['role'] == 'system' and messages | length > 1 %}{{ messages[1].role }}{% endif %}",
    "{{ messages | tojson(indent=4) }}",
    "{% for x in messages | reverse %}{{ x.role }} {% endfor %}",
    "{% for x in messages[::-1] %}{{ loop.index0 }}{{ x.role }} {% endfor %}",
    "{% set idx = (messages | length - 1) - 1 %}{{ messages[idx].role }}",
    "{{ 'a' if m is defined and m is not none else 'b' }}",
    "{%- if a is sequence and a is not string and a is not mapping -%}list{%- elif a is mapping -%}map{%- endif -%}",
    "{% for x in messages %}{{ x.content is string }}{{ x.content is sequence and x.content is not string }} {% endfor %}",
    "{{ dict(messages[0], extra='y') }}",
    "{{ dict(messages[0], **{'extra': 'y'}) }}",
    "{{ [1, 2, *[3]] }}",
    "{{ (a.content.split('</think>') | last).lstrip() }}",
    "{% set x = a.content.split('</think>', 1) %}{{ x[0].replace('<think>', '').strip() }}|{{ x[1].strip() }}",
    "{% set parts = m.content.split('\\n') %}{% for p in parts %}{{ p.strip() }}{% if not loop.last %}; {% endif %}{% endfor %}",
    "{{ m.content.split() | join(' ') }}",
    "{{ messages | map(attribute='role') | unique | join(',') }}",
    "{% set roles = messages | map(attribute='role') %}{{ roles | list }}{{ 'user' in roles }}",
    "{{ 'x' * (messages | length) }}",
    "{% if 'system' in messages | map(attribute='role') %}has{% endif %}",
    "{{ namespace is callable }}{{ dict is callable }}{{ loop is defined }}",
    "{% for x in messages %}{{ loop }}{% endfor %}",
    "a\r\nb\rc{{ 1 }}\r\n",
    "{{ 'a\r\nb' }}",
    "\ufeffa",
    "{{ true }}{{ True }}{{ none }}{{ None }}{{ false }}{{ False }}",
    "{{ m.content.split('\n')|length }}",
    "{{ messages[0].content|upper|length }}",
    "{{ m['con' ~ 'tent'][:3] }}",
    "{%set x=1%}{%if x==1%}a{%endif%}",
    "{{ x if x is defined }}|",
    "{% if x is defined and x %}a{% endif %}b",
    "{{ (1 > 2) | string }}{{ (1, 2) | length }}",
    "{% for i in range(3) %}{{ i }}{{ ', ' if not loop.last }}{% endfor %}",
    "{{ messages | selectattr('role', 'ne', 'user') | map(attribute='role') | list }}",
    "{{ messages | rejectattr('role', 'in', ['user']) | map(attribute='role') | list }}",
    "{{ (messages | selectattr('role', 'equalto', 'system') | first).content }}",
    "{{ (messages | selectattr('role', 'equalto', 'nobody') | first) is defined }}",
    "{{ messages | groupby('role') | list | length }}{% for role, items in messages | groupby('role') %}{{ role }}{{ items | length }} {% endfor %}",
]
NUMBERS = {
    "int": 7, "float": 2.5, "big": 12345678901234567890, "neg": -3, "list": [3, "é", None], "table": {"y": 1, "x": "b"},
    "text": "é\n\"q\" 'p'", "nothing": None, "yes": True, "exp": 1e22,
}


def render(template):
    try:
        rendered, _ = render_jinja_template(
            conversations=[MESSAGES], chat_template=template, n=NUMBERS, loop_count=4, **NAMES
        )
    except Exception as error:
        return {"source": template, "error": f"{type(error).__name__}: {error}"[:120]}
    return {"source": template, "text": rendered[0]}


if __name__ == "__main__":
    head = "{% set m = messages[1] %}{% set a = messages[2] %}"
    golden = {
        "made_by": f"tools/golden_templates.py with transformers {transformers.__version__}, jinja2 {jinja2.__version__}",
        "messages": MESSAGES,
        "names": NAMES,
        "n": NUMBERS,
        "cases": [render(head + "{{ " + e + " }}") for e in EXPRESSIONS] + [render(head + t) for t in TEMPLATES],
    }
    path = pathlib.Path(__file__).parent.parent / "crates/text/tests/golden/templates.json"
    path.write_text(json.dumps(golden, ensure_ascii=False, indent=0) + "\n", encoding="utf-8")
    print(f"{path}: {path.stat().st_size} bytes, {len(golden['cases'])} cases")
