#!/usr/bin/env python3
"""Golden outputs of chat templates, rendered by transformers' own Jinja environment.

Writes tests/golden/templates.jsonl: one case a line, {"t": template, "v": variables, "out": text, "spans": […]}
or {"t", "v", "error": true}. The templates here were written for this purpose; together they use every
construct the interpreter knows, and the chat templates at the end follow the forms of the common families.

usage: make_golden_templates.py [OUT]
"""
import json
import sys
from pathlib import Path

from transformers.utils import chat_template_utils as ctu

CASES = []


def case(template, **variables):
    CASES.append((template, variables))


def cases(text, **variables):
    """One template per line."""
    for line in text.strip("\n").split("\n"):
        if line.strip():
            case(line, **variables)


# --- white space ------------------------------------------------------------------------------------------
for t in [
    "a\n{% if true %}\nb\n{% endif %}\nc\n",
    "  {% if true %}x{% endif %}  \n",
    "x {{- 1 -}} y",
    "  {{ 1 }}\n  {%- set a=1 %}\nz",
    "  {%+ if true %}x{% endif %}",
    "a\n\n", "a\r\nb\rc\n", "", "\n", "  \n  ",
    "a {# note #} b", "  {# note #}\nb", "a\n  {#- note -#}  \n b", "{# {{ x }} {% if %} #}z",
    "{% raw %}{{ x }}{% endraw %}", "{%- raw -%}  {% if %}  {%- endraw -%}  y",
    "a\n  {% raw %}\n  b\n  {% endraw %}\nc",
    "{% set x = 1 +%}\nb", "{{ 1 -}}\n\n  {{- 2 }}", "{%- if true -%}\n x \n{%- endif -%}",
    "\t{% if true %}\t{% endif %}\n\tx", "a{% if true %} \n{% endif %}b",
    "{{'a'}}\n{{'b'}}\n", "x\n\n  {%- for i in [1,2] %}\n  {{ i }}\n  {% endfor -%}\n\n y",
    "\u00a0{{- 1 -}}\u3000x", "é {{- 'ü' -}} ñ", "{ { x } }", "{% if true %}{% endif %}\n\n",
    "a  {#+ c +#}\n b", "{{ '}}' }}|{{ \"%}\" }}", "{% set x = {'a': {'b': 1}} %}{{ x['a']['b'] }}}",
    "line\n   {% set a = 1 %}   \nnext", "{%- set a = 'x' -%}\n\n{{ a }}", "{{\n  1\n}}", "{%\nif true\n%}y{%endif%}",
]:
    case(t)

# --- values, printing, operators ----------------------------------------------------------------------------
cases(r"""
{{ x }}|{{ none }}|{{ true }}|{{ 1.0 }}|{{ [1,'a',none] }}|{{ {'a':1} }}|{{ (1,) }}|{{ () }}|{{ (1,2) }}
{{ 1e3 }}|{{ 1.5e-7 }}|{{ 1e16 }}|{{ 123456789.125 }}|{{ 0.1 }}|{{ 1e22 }}|{{ 3.0e0 }}|{{ 1_000 }}|{{ 0x1F }}|{{ 0b101 }}|{{ 0o17 }}
{{ 'a' ~ 1 ~ none }}|{{ 'ab'*2 }}|{{ 7//2 }}|{{ 7/2 }}|{{ -7%3 }}|{{ -7//2 }}|{{ 2**3 }}|{{ 7.5 // 2 }}|{{ -7.5 % 2 }}|{{ 2 ** -1 }}
{{ 'a' + 1 }}
{{ 1 + 'a' }}
{{ [1] + [2] }}|{{ (1,) + (2,) }}|{{ [0] * 3 }}|{{ 3 * 'x' }}|{{ true + 1 }}
{{ 'abc'[::-1] }}|{{ [1,2,3][1:] }}|{{ 'a,b'.split(',')[-1] }}|{{ 'xaxx'.strip('x') }}|{{ 'héllo'[1] }}|{{ 'héllo'[1:3] }}|{{ [1,2,3,4][::2] }}|{{ [1,2,3][-2:] }}|{{ 'abc'[5:] }}|{{ 'abcdef'[4:1:-2] }}
{{ 0 or 'z' }}|{{ '' and 1 }}|{{ 'a' if false }}|{{ 'a' if true else 'b' }}|{{ 1 if none else 2 if 0 else 3 }}
{{ true == 1 }}|{{ 1 == 1.0 }}|{{ '1' == 1 }}|{{ none == false }}|{{ [1] == [1.0] }}|{{ {'a':1} == {'a':1} }}|{{ (1,) == [1] }}
{{ 1 < 2 < 3 }}|{{ 1 < 3 < 2 }}|{{ 3 > 2 >= 2 }}|{{ 'a' < 'b' }}|{{ 'B' < 'a' }}|{{ [1,2] < [1,3] }}|{{ 1 != 2 }}
{{ 'a' < 1 }}
{{ none < 1 }}
{{ 2**3**2 }}|{{ -2**2 }}|{{ 2 * 3 ~ 4 }}|{{ -1|abs }}|{{ 3|string + 'a' }}|{{ not true and false }}|{{ not (true and false) }}
{{ 1 + 2 ~ 3 }}
{{ 'a' in 'abc' }}|{{ 'x' not in ['x'] }}|{{ 'k' in {'k':1} }}|{{ 1 in (1,2) }}|{{ '' in 'a' }}|{{ not 'a' in 'b' }}
{{ 1 in 'abc' }}
{{ 'a' in none }}
{{ 5 in 5 }}
{{ 'a' 'b' "c" }}|{{ "it's" }}|{{ 'q"q' }}|{{ 'tab\tnl\nq\'s\\' }}|{{ '\x41\u00e9\U0001F600' }}|{{ '\q' }}|{{ '\101' }}
{{ ["it's", 'q"q', "b'\"", 'é', '\n', '\x00', '\u200b', '\\', '\x7f', '\u00ad', '😀'] }}
{{ {'a': [1, {'b': none}], 2: (3,), none: true} }}
{{ [1,2,3,][0] }}|{{ {'a':1,}.a }}|{{ (1,2,)[1] }}
{{ 1/0 }}
{{ 1 % 0 }}
{{ 10 % 3.5 }}|{{ 1.0 * 3 }}|{{ 7 // 2.0 }}|{{ +5 }}|{{ - -5 }}|{{ 5 - -5 }}
{{ u ~ 'a' }}|{{ u|length }}|{{ u == none }}|{{ u == '' }}|{{ u == u2 }}|{{ not u }}|{{ u is defined }}|{{ [1][5] }}|{{ 'abc'[5] }}
{{ u + 'a' }}
{{ u.x }}
{{ u['x'] }}
{{ u() }}
{{ u < 1 }}
{{ -u }}
{{ u[1:] }}
{{ [u] }}|{{ u|list }}|{{ u|join(',') }}|{{ u|string }}|{{ u|trim }}|{{ u|default('d') }}|{{ u|upper }}|{{ u|first }}|{{ 'a' in u }}
{{ u|tojson }}
{{ u|int }}
{{ m.foo }}|{{ m['foo'] }}|{{ m.a }}|{{ m['a'] }}|{{ m.b.c }}|{{ m.b['c'] }}|{{ m.l[0].x }}|{{ m.l.0.x }}
{{ m.foo.bar }}
{{ m.items is callable }}|{{ m['items'] is callable }}|{{ m.keys()|list }}|{{ m.values()|list }}|{{ m.get('a') }}|{{ m.get('zz') }}|{{ m.get('zz', 5) }}|{{ m.items()|list|length }}
{{ m.items() }}|{{ m.keys() }}|{{ m.values() }}
{{ m.items()[0] }}|{{ m.keys()|length }}|{{ (m.items()|list)[0][0] }}|{{ m.copy() == m }}
{{ [1].append(2) }}
{{ m.update({'x': 1}) }}
{{ m.pop('a') }}
{{ [1].append is defined }}|{{ m.__class__ is defined }}|{{ ''.__class__ }}|{{ m._private }}
{{ ''.__class__.__mro__ }}
{{ 5() }}
{{ 'a'() }}
{{ nofilter|nosuchfilter }}
{% if false %}{{ 1|nosuchfilter }}{% endif %}ok
{{ 1 is nosuchtest }}
{{ 'x' is string }}{{ 1 is number }}{{ 1 is string }}{{ true is number }}{{ true is integer }}{{ 1 is integer }}{{ 1.0 is float }}{{ 1 is float }}
{{ {} is mapping }}{{ {} is sequence }}{{ 'a' is iterable }}{{ true is boolean }}{{ [] is sequence }}{{ 1 is iterable }}{{ none is none }}{{ 0 is none }}
{{ 3 is odd }}{{ 4 is even }}{{ 9 is divisibleby 3 }}{{ 9 is divisibleby(2) }}{{ 1 is eq 1 }}{{ 1 is equalto 2 }}{{ 2 is gt 1 }}{{ 2 is le(1) }}{{ 'a' is in ['a'] }}{{ 1 is not none }}{{ 1 is sameas 1 }}{{ 'a' is in 'abc' }}
{{ false is false }}{{ 0 is false }}{{ true is true }}{{ none is false }}{{ 'abc' is lower }}{{ 'ABC' is upper }}{{ 'length' is filter }}{{ 'odd' is test }}{{ u is undefined }}{{ m.a is defined }}{{ m.zz is not defined }}
{{ (1 is string) or (2 is number) }}|{{ 1 is number and 2 is number }}|{{ x is defined and x.y }}|{{ 'a' if 1 is odd else 'b' }}
{{ [x, y] if false else [] }}|{{ [1, 2] | length > 1 }}|{{ 'a' ~ 'b' | upper }}|{{ ('a' ~ 'b') | upper }}
{{ range(3)|list }}|{{ range(1,4)|list }}|{{ range(5,0,-2)|list }}|{{ range(3) }}|{{ range(0, 9, 3) }}|{{ range(4)[2] }}|{{ range(4)|length }}|{{ 2 in range(3) }}|{{ range(-1)|list }}
{{ range(1000000) }}
{{ range(1,2,0) }}
{{ dict(a=1, b=2) }}|{{ dict([('x', 1)]) }}|{{ dict({'a': 1}, b=2) }}
{{ 'a\nb' }}|{{ 'x' * 0 }}|{{ 'x' * -1 }}|{{ [] * 2 }}
{{ true and 'yes' }}{{ false or 'no' }}{{ not none }}{{ True }}{{ False }}{{ None }}
{{ 'abc'.x }}|{{ 'abc'['upper']() }}|{{ [1].x }}
{{ 1.0 }}|{{ 100.0 }}|{{ 1.25 }}|{{ 1e100 }}|{{ 2.5e-5 }}|{{ 0.0001 }}|{{ 0.00001 }}|{{ -0.0 }}|{{ 12345678901234567 }}
{{ [[1,2],[3]]|map('length')|list }}|{{ [1,2,3]|map('string')|join }}
{{ {'a':1}['a'] }}|{{ {'a':1}.get('b','c') }}|{{ {1:'x'}[1] }}|{{ {'a':1}[0] is defined }}
{{ [1] in [[1]] }}|{{ {} in [{}] }}
{{ {[1]: 2} }}
{{ [3,1,2]|sort|first }}|{{ -3 % 5 }}|{{ 3 % -5 }}|{{ 1 == 1 == 1 }}
{{ a.b.c if a is defined else 'none' }}
{{ '%s-%d' % ('a', 3) }}|{{ '%5.2f|%-5s|%05d' % (3.14159, 'ab', 42) }}|{{ '%s' % 5 }}|{{ '%x' % 255 }}|{{ '%%' % () }}|{{ '%r' % 'a' }}|{{ '%(k)s' % {'k': 1} }}|{{ '%s' % [1] }}|{{ '%+d' % 5 }}|{{ '%e' % 12345.678 }}|{{ '%g' % 0.0001 }}
{{ '%s %s' % 'a' }}
{{ '%d' % 'a' }}
{{ 'a' % 1 }}
""", m={"a": 1, "b": {"c": "deep"}, "l": [{"x": "lx"}], "_private": 7})

# --- strings ---------------------------------------------------------------------------------------------------
cases(r"""
{{ ' a b '.strip() }}|{{ ' a '.lstrip() }}|{{ ' a '.rstrip() }}|{{ 'xxaxx'.lstrip('x') }}|{{ 'abcab'.rstrip('ba') }}|{{ '\u3000a\u00a0'.strip() }}|{{ 'ééaé'.strip('é') }}
{{ 'a b  c'.split() }}|{{ 'a,b,c'.split(',', 1) }}|{{ ''.split() }}|{{ ''.split(',') }}|{{ 'a--b'.split('--') }}|{{ ' a b '.split(' ') }}|{{ 'a b c d'.split(none, 2) }}|{{ 'a,b,c'.rsplit(',', 1) }}|{{ 'a b c'.rsplit(None, 1) }}|{{ 'a,b'.split(sep=',', maxsplit=1) }}
{{ 'a\nb\r\nc\n\nd'.splitlines() }}|{{ 'a\nb'.splitlines(true) }}|{{ 'k=v=w'.partition('=') }}|{{ 'k=v=w'.rpartition('=') }}|{{ 'kv'.partition('=') }}
{{ 'abc'.startswith('ab') }}|{{ 'abc'.endswith(('x','c')) }}|{{ 'abc'.startswith('b', 1) }}|{{ 'abc'.startswith('') }}|{{ 'abc'.endswith('ab', 0, 2) }}
{{ 'aXbX'.replace('X', '-') }}|{{ 'aXbX'.replace('X', '-', 1) }}|{{ 'abc'.replace('', '.') }}|{{ 'abc'|replace('b', 1) }}|{{ 'aaa'|replace('a', 'b', 2) }}
{{ 'abc'.upper() }}|{{ 'ABC'.lower() }}|{{ 'hello world'.title() }}|{{ "it's ok".title() }}|{{ "it's ok"|title }}|{{ 'hELLO wORLD'.capitalize() }}|{{ 'aBc'.swapcase() }}|{{ 'straße'.upper() }}|{{ 'ÉÀ'.lower() }}|{{ 'foo-bar (baz)'|title }}|{{ 'x1y'.title() }}
{{ 'abcabc'.find('c') }}|{{ 'abcabc'.rfind('c') }}|{{ 'abc'.find('z') }}|{{ 'éabc'.find('b') }}|{{ 'abcabc'.count('b') }}|{{ 'abc'.index('c') }}|{{ 'abcabc'.find('a', 1) }}|{{ 'aaa'.count('') }}
{{ 'abc'.index('z') }}
{{ ', '.join(['a','b']) }}|{{ ''.join([]) }}|{{ '-'.join('abc') }}
{{ ','.join([1]) }}
{{ 'ab'.center(6,'*') }}|{{ 'ab'.ljust(4) }}|{{ 'ab'.rjust(4,'0') }}|{{ '7'.zfill(3) }}|{{ '-7'.zfill(4) }}|{{ 'abc'.center(6) }}|{{ 'abcd'.center(7, '.') }}|{{ 'ab'|center(7) }}
{{ '12'.isdigit() }}{{ 'a1'.isalnum() }}{{ 'ab'.isalpha() }}{{ ' '.isspace() }}{{ 'AB'.isupper() }}{{ 'ab'.islower() }}{{ ''.isdigit() }}{{ '½'.isnumeric() }}{{ '٣'.isdecimal() }}{{ 'é'.isascii() }}
{{ 'prefix-x'.removeprefix('prefix-') }}|{{ 'x.py'.removesuffix('.py') }}|{{ 'x'.removesuffix('') }}
{{ '{} and {}'.format('a', 1) }}|{{ '{0}{1}{0}'.format('a','b') }}|{{ '{name}!'.format(name='n') }}|{{ '{:>5}|{:<5}|{:^5}|'.format('a','b','c') }}|{{ '{:05d}|{:.2f}|{:,}'.format(42, 3.14159, 1234567) }}|{{ '{{}}'.format() }}|{{ '{!r}'.format('a') }}|{{ '{0[a]}'.format({'a': 5}) }}|{{ '{:*^7}'.format('x') }}|{{ '{:x}'.format(255) }}|{{ '{:+}'.format(5) }}|{{ '{:%}'.format(0.25) }}|{{ '{:.3}'.format('abcdef') }}
{{ '{}'.format() }}
{{ 'abc'|length }}|{{ 'é😀'|length }}|{{ 'abc'|first }}|{{ 'abc'|last }}|{{ 'abc'|reverse }}|{{ 'abc'|list }}
{{ 'a<b>&"\''|e }}|{{ 'a<b>'|escape|length }}|{{ ('<'|safe) + '<' }}|{{ '<' + ('<'|safe) }}|{{ '<' ~ ('<'|safe) }}|{{ 'x'|safe is string }}|{{ ('<'|safe)|string + '>' }}|{{ 'a'|safe is escaped }}
{{ 'a\nb\n\nc'|indent }}|{{ 'a\nb'|indent(2, true) }}|{{ 'a\n\nb'|indent(2, blank=true) }}|{{ 'a\nb'|indent('> ') }}|{{ 'a\n'|indent(width=2) }}
{{ 'foo bar baz qux'|truncate(9) }}|{{ 'foo bar baz qux'|truncate(9, true) }}|{{ 'foo bar baz qux'|truncate(11) }}|{{ 'foo bar baz qux'|truncate(11, False, '...', 0) }}
{{ '%s, %s!'|format('a', 'b') }}|{{ '%(x)s'|format(x=1) }}|{{ 'a b c'|wordcount }}
{{ ''|default('d',true) }}|{{ 0|default(1) }}|{{ none|default('n') }}|{{ none|d('n', true) }}|{{ u|d }}|{{ u|default(value) }}
{{ 'a'.nosuch() }}
{{ 'abc'.split('') }}
{{ 'a'.strip(1) }}
{{ '  x '|trim }}|{{ 'xxaxx'|trim('x') }}|{{ 5|trim }}|{{ none|trim }}|{{ [1]|string }}|{{ 1.5|string|length }}|{{ none|upper }}|{{ 'Ab'|lower }}|{{ 'hello there'|capitalize }}
{{ 'a' 'b' ~ 'c' }}|{{ 'abc'[1:][0] }}|{{ 'x'.join(['1','2','3']) }}|{{ 'a.b.c'.split('.')|last }}|{{ '</think>' in 'a</think>b' }}|{{ 'a</think>b'.split('</think>')[-1].lstrip('\n') }}
""")

# --- filters over lists and dicts, tojson -----------------------------------------------------------------------
USERS = [{"name": "Bob", "age": 30, "tags": ["x"], "city": {"n": "b"}}, {"name": "amy", "age": 25, "city": {"n": "A"}},
         {"name": "Cid", "age": 30, "tags": [], "city": {"n": "a"}}]
cases(r"""
{{ {'b':1,'a':[true,none,"é<&'"]}|tojson }}|{{ []|tojson }}|{{ {}|tojson }}|{{ []|tojson(indent=4) }}|{{ {}|tojson(indent=4) }}|{{ 'a"b\\c\n\t\x01/\u2028'|tojson }}|{{ 1.0|tojson }}|{{ 1e-5|tojson }}|{{ 1e16|tojson }}|{{ (1,2)|tojson }}|{{ none|tojson }}
{{ {'b':1,'a':{'c':[1,{'d':2}]}}|tojson(indent=2) }}
{{ {'b':1,'a':[1,2]}|tojson(indent=4, sort_keys=true) }}|{{ {'b':1,'a':'é😀\x7f'}|tojson(ensure_ascii=true) }}|{{ {'a':[1,2]}|tojson(separators=(',', ':')) }}|{{ {'a':1}|tojson(ensure_ascii=False) }}|{{ {1:2, none:3, true:4, 1.5:5}|tojson }}|{{ {'a':[1]}|tojson(indent='--') }}|{{ [1,2]|tojson(indent=0) }}|{{ {'a':1}|tojson(indent=1, separators=(',', ': ')) }}|{{ [1]|tojson(true) }}
{{ users|tojson }}
{{ users|tojson(indent=4) }}
{{ {'a': u}|tojson }}
{{ users|map(attribute='name')|tojson }}
{{ users|map(attribute='name')|list }}|{{ users|map(attribute='tags', default='-')|list }}|{{ users|map(attribute='city.n')|join('+') }}|{{ users|map('length')|list }}|{{ ['a','b']|map('upper')|join(',') }}|{{ ['a,b']|map('split', ',')|list }}
{{ ['xa','xb']|map('replace', 'x', 'y')|list }}|{{ [1,none]|map('string')|join(',') }}|{{ [[1,2]]|map('join', '-')|list }}|{{ [none, 1]|map('default', 'd', true)|list }}
{{ users|selectattr('age','equalto',30)|map(attribute='name')|join(',') }}|{{ users|rejectattr('age','equalto',30)|list|length }}|{{ users|selectattr('tags')|list|length }}|{{ users|selectattr('tags','defined')|list|length }}|{{ users|selectattr('age','>',26)|list|length }}|{{ users|selectattr('name','in',['Bob'])|map(attribute='age')|first }}
{{ [1,2,3,4]|select('odd')|list }}|{{ [1,2,3]|reject('odd')|list }}|{{ [0,1,'',none]|select|list }}|{{ ['a','b']|reject('equalto','a')|list }}|{{ [1,5,3]|select('>=', 3)|list }}|{{ [3,6,7]|select('divisibleby', 3)|list }}
{{ users|selectattr('age','equalto',30)|length }}
{{ 'yes' if users|selectattr('age','equalto',99) else 'no' }}|{{ 'yes' if users|selectattr('age','equalto',99)|list else 'no' }}|{{ (users|map(attribute='name'))[0] is defined }}
{{ [3,1,2]|sort }}|{{ ['b','A','a','B']|sort }}|{{ ['b','A']|sort(case_sensitive=true) }}|{{ [3,1,2]|sort(reverse=true) }}|{{ users|sort(attribute='name')|map(attribute='name')|list }}|{{ users|sort(attribute='age,name')|map(attribute='name')|list }}|{{ users|sort(attribute='age', reverse=true)|map(attribute='name')|list }}|{{ users|sort(attribute='city.n')|map(attribute='name')|list }}
{{ [1,'a']|sort }}
{{ {'b':1,'a':2,'C':0}|dictsort }}|{{ {'b':1,'a':2}|dictsort(by='value') }}|{{ {'b':1,'a':2}|dictsort(reverse=true) }}|{{ {'b':1,'C':2}|dictsort(true) }}
{{ {'b':1,'a':2}|items|list }}|{% for k, v in {'b':1,'a':2}|items %}{{ k }}{{ v }}{% endfor %}|{% for k in {'b':1} %}{{ k }}{% endfor %}|{{ u|items|list }}
{{ [1,2]|items|list }}
{{ [1,2,2,1]|unique|list }}|{{ ['a','A']|unique|list }}|{{ users|unique(attribute='age')|map(attribute='name')|list }}|{{ [1,2,3]|min }}|{{ [1,2,3]|max }}|{{ ['b','A']|min }}|{{ []|max }}|{{ users|max(attribute='age')|tojson }}
{{ [1,2,3]|sum }}|{{ users|sum(attribute='age') }}|{{ [[1],[2]]|sum(start=[]) }}|{{ [1,2]|join }}|{{ [1,2]|join('-') }}|{{ users|join(', ', attribute='name') }}|{{ {'a':1,'b':2}|join(',') }}|{{ [1,none,true]|join(' ') }}
{{ [1,2,3]|first }}|{{ [1,2,3]|last }}|{{ []|first }}|{{ {'a':1,'b':2}|first }}|{{ {'a':1,'b':2}|last }}|{{ [1,2,3]|reverse|list }}|{{ {'a':1}|list }}|{{ [1,2,3]|length }}|{{ {'a':1}|count }}|{{ range(3)|last }}
{{ [1,2]|map('string')|last }}
{{ [1,2,3,4,5]|batch(2)|list }}|{{ [1,2,3]|batch(2,'x')|list }}|{{ [1,2,3,4,5]|slice(2)|list }}|{{ [1,2,3]|slice(2,'x')|list }}
{% for g in users|groupby('age') %}{{ g.grouper }}:{{ g.list|length }};{% endfor %}{% for a, l in users|groupby('city.n') %}{{ a }}{{ l|map(attribute='name')|join }};{% endfor %}
{{ '42'|int }}|{{ 'x'|int }}|{{ 'x'|int(7) }}|{{ '42.7'|int }}|{{ 3.9|int }}|{{ none|int }}|{{ 'ff'|int(0,16) }}|{{ '0x1f'|int(base=16) }}|{{ ' 5 '|int }}|{{ true|int }}|{{ '-3'|int }}|{{ '1e3'|int }}
{{ '1.5'|float }}|{{ 'x'|float }}|{{ 3|float }}|{{ 'x'|float(2.5) }}|{{ -5|abs }}|{{ (-5)|abs }}|{{ 2.5|round }}|{{ 3.5|round }}|{{ 42.55|round(1) }}|{{ 42.51|round(1,'floor') }}|{{ 42.1|round(0,'ceil') }}|{{ 42|round }}|{{ 2.675|round(2) }}
{{ 5|length }}
{{ none|length }}
{{ none|list }}
{{ users[0]|attr('name') is defined }}|{{ 'a'|attr('upper') is callable }}
{{ [[1,'b'],[0,'a']]|sort|list }}|{{ [(2,'x'),(1,'y')]|sort(attribute=1)|list }}|{{ [[3,4]]|map(attribute=1)|list }}|{{ [[3,4]]|map('first')|list }}|{{ [{'a':{'b':1}}]|map(attribute='a.b')|list }}
{{ [1,2]|nosuch }}
{{ 1|tojson(nosuch=2) }}
{{ 'a'|upper(1) }}
{{ [1]|map|list }}
{{ [1]|map('nosuch')|list }}
""", users=USERS)

# --- statements ----------------------------------------------------------------------------------------------------
for t in [
    "{% set ns=namespace(a=1) %}{% for i in [1,2] %}{% set ns.a = ns.a+i %}{% set b=i %}{% endfor %}{{ ns.a }}|{{ b is defined }}",
    "{% for i in [1,2,3] if i!=2 %}{{ loop.index }}{{ loop.first }}{{ loop.last }}{{ loop.length }};{% endfor %}",
    "{% for i in 'abc' %}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ i }}{{ loop.previtem }}{{ loop.nextitem }};{% endfor %}",
    "{% for i in [] %}x{% else %}empty{% endfor %}|{% for i in u %}x{% else %}undef{% endfor %}|{% for i in [1] if false %}{% else %}none{% endfor %}",
    "{% for a, b in [(1,2),(3,4)] %}{{ a }}{{ b }};{% endfor %}{% for a, (b, c) in [(1,(2,3))] %}{{ a }}{{ b }}{{ c }}{% endfor %}",
    "{% for a, b in [(1,2,3)] %}{% endfor %}",
    "{% for i in 5 %}{% endfor %}", "{% for i in none %}{% endfor %}",
    "{% for i in [1,2,3,4,5] %}{% if i == 2 %}{% continue %}{% endif %}{% if i == 4 %}{% break %}{% endif %}{{ i }}{% endfor %}",
    "{% for i in [1,2] %}{% for j in [1,2,3] %}{% if j == 2 %}{% break %}{% endif %}{{ i }}{{ j }}{{ loop.index }}{% endfor %}{{ loop.index }};{% endfor %}",
    "{% for i in range(3) %}{{ loop.cycle('a','b') }}{{ loop.changed(i // 2) }}{% endfor %}",
    "{% for k, v in {'a': 1}.items() %}{{ k }}={{ v }}{% endfor %}",
    "{% for x in [[1,[2]],[3]] recursive %}{% if x is iterable %}[{{ loop(x) }}]{{ loop.depth }}{% else %}{{ x }},{% endif %}{% endfor %}",
    "{% if a %}1{% elif b %}2{% elif true %}3{% else %}4{% endif %}", "{% if false %}1{% endif %}x{% if 0 or [] %}{% else %}e{% endif %}",
    "{% set x = 1 %}{% if true %}{% set x = 2 %}{% endif %}{{ x }}", "{% set x = 1 %}{% for i in [1] %}{% set x = 2 %}{{ x }}{% endfor %}{{ x }}",
    "{% set a, b = 1, 2 %}{{ a }}{{ b }}{% set (c, d) = (3, 4) %}{{ c }}{{ d }}", "{% set x %}a{{ 1 }}b{% endset %}{{ x }}{{ x is string }}",
    "{% set x | upper | trim %} ab {% endset %}[{{ x }}]", "{% set x = 1, 2 %}{{ x }}", "{% set ns = namespace() %}{% set ns.x = 1 %}{{ ns.x }}{{ ns.y is defined }}{{ ns.y }}",
    "{% set ns = namespace({'q': 1}, r=2) %}{{ ns.q }}{{ ns.r }}{% set ns.q %}block{% endset %}{{ ns.q }}", "{% set d = {} %}{% set d.x = 1 %}", "{% set ns = namespace() %}{% set ns._x = 1 %}",
    "{% set ns = namespace(x=[]) %}{% for i in [1,2] %}{% set ns.x = ns.x + [i] %}{% endfor %}{{ ns.x }}", "{{ namespace(a=1) }}",
    "{% macro f(a, b=2) %}{{ a }}-{{ b }}{% endmacro %}{{ f(1) }}|{{ f(1, 3) }}|{{ f(b=5, a=4) }}|{{ f() }}|{{ f(1)|upper|length }}",
    "{% macro f(a) %}{{ a }}{% endmacro %}{{ f(1, 2) }}", "{% macro f(a) %}{{ a }}{% endmacro %}{{ f(z=2) }}", "{% macro f() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ f(1, 2, k=3) }}",
    "{% macro fact(n) %}{% if n <= 1 %}1{% else %}{{ n * (fact(n - 1)|int) }}{% endif %}{% endmacro %}{{ fact(6) }}",
    "{% set g = 'G' %}{% macro f() %}{{ g }}{{ l is defined }}{% endmacro %}{% for l in [1] %}{{ f() }}{% endfor %}{% set g = 'H' %}{{ f() }}",
    "{% macro f(x, d={'a': 1}) %}{{ d[x] }}{% endmacro %}{{ f('a') }}{{ f('zz') }}", "{% macro wrap(t) %}<{{ t }}>{{ caller() }}</{{ t }}>{% endmacro %}{% call wrap('b') %}in{{ 1 }}{% endcall %}",
    "{% macro each(l) %}{% for i in l %}{{ caller(i, loop.index) }}{% endfor %}{% endmacro %}{% call(x, n) each([7,8]) %}{{ n }}:{{ x }};{% endcall %}", "{% macro f() %}x{% endmacro %}{% call f() %}{% endcall %}",
    "{% macro f(a) %}\n  {{- a }}\n{% endmacro %}[{{ f('x') }}]", "{% macro f(x) -%}\n{{ x }}\n{%- endmacro %}[{{ f('x') }}]", "{{ f() }}{% macro f() %}late{% endmacro %}",
    "{% macro f() %}{% set inner = 1 %}{{ inner }}{% endmacro %}{{ f() }}{{ inner is defined }}", "{% macro f(a) %}{{ f.name }}{% endmacro %}{{ f(1) }}", "{% macro r(x) %}{{ x }}{% if x < 3 %}{{ r(x + 1) }}{% endif %}{% endmacro %}{{ r(0) }}",
    "{% filter upper %}abc {{ 'd' }}{% endfilter %}", "{% filter replace('a', 'b')|trim %} aaa {% endfilter %}|", "{% with a = 1, b = 2 %}{{ a }}{{ b }}{% endwith %}{{ a is defined }}", "{% set a = 1 %}{% with %}{% set a = 2 %}{{ a }}{% endwith %}{{ a }}",
    "{% block body %}in block{% endblock %}", "{% print 1, 2 %}", "{% include 'x' %}", "{% if false %}{% include 'x' %}{% endif %}ok", "{% autoescape false %}<{% endautoescape %}",
    "{{ raise_exception('no ' ~ 'way') }}", "{% if true %}{{ raise_exception(\"Conversation roles must alternate user/assistant/user/assistant/... and this message is rather long, so it goes on\") }}{% endif %}",
    "{{ cycler('a','b').next() }}", "{% set c = cycler('a','b','c') %}{{ c.next() }}{{ c.current }}{{ c.next() }}{{ c.reset() }}{{ c.next() }}", "{% set j = joiner('; ') %}{% for i in [1,2,3] %}{{ j() }}{{ i }}{% endfor %}", "{% set pipe = joiner() %}{{ pipe() }}{{ pipe() }}",
    "{% endif %}", "{% if true %}", "{% for %}", "{{ }}", "{{ 1 2 }}", "{% nosuchtag %}", "{{ (1 }}", "{{ 'a }}", "{% set 1 = 2 %}", "{{ a b }}", "{% break %}", "{% raw %}x", "{# x", "{{ 1", "{% do x %}", "{{ [1, }}", "{{ x.1y }}", "{% set none = 1 %}", "{% macro f(a=1, b) %}{% endmacro %}", "{{ 1 if }}", "{% else %}",
    "a{% generation %}b{{ 1 }}{% endgeneration %}c", "{% for m in ['x','yé'] %}<{% generation %}{{ m }}!{% endgeneration %}>{% endfor %}", "{% generation %}{% set q = 1 %}{% endgeneration %}{{ q is defined }}", "{%- generation -%}  x  {%- endgeneration -%}  y",
    "{% for i in [1,2,3] %}{{ i }}{{ ',' if not loop.last }}{% endfor %}", "{% for i in [1,2,3] -%} {{ i }} {%- endfor %}", "{% for i in [3,4] %}{% set loop_i = loop.index0 %}{{ loop_i }}{% if loop.first %}F{% endif %}{% endfor %}",
    "{% set x = [1,2,3] %}{% for i in x[1:] %}{{ i }}{% endfor %}{% for i in x[::-1] %}{{ i }}{% endfor %}{% for i in x|reverse %}{{ i }}{% endfor %}", "{% for c in 'é😀' %}{{ c }},{% endfor %}",
    "{% set it = [1,2]|map('string') %}{% for i in it %}{{ i }}{% endfor %}|{% for i in it %}{{ i }}{% endfor %}", "{% for i in [1,2] %}{% set y = i %}{% if loop.last %}{{ y }}{% endif %}{% endfor %}", "{{ loop is defined }}{% for i in [1] %}{{ loop is defined }}{% endfor %}",
    "{% for i in [1] %}{% for j in [2,3] %}{{ loop.index }}{% endfor %}{{ loop.length }}{% endfor %}", "{% set outer = 1 %}{% for i in [1,2] %}{{ outer }}{% set outer = outer + 1 %}{{ outer }}{% endfor %}{{ outer }}", "{% if x is not defined %}{% set x = 5 %}{% endif %}{{ x }}",
    "{% for i in range(2) %}{% if i %}{% set v = i %}{% endif %}{{ v }};{% endfor %}", "{% set x = 'a' if false %}{{ x is defined }}{{ x }}", "{% for m in [] %}{% endfor %}{% set found = false %}{{ found }}", "{{ strftime_now('%%') }}", "{{ strftime_now(5) }}", "{% for i in [1,2] %}{{ loop.foo }}{% endfor %}", "{{ 'a' if x is defined and x is not none else 'b' }}",
    "{%- for i in [1,2] -%}\n  {%- if i == 1 -%}\n    one\n  {%- else -%}\n    two\n  {%- endif -%}\n{%- endfor -%}\n", "{% set ns = namespace(f=true) %}{% for m in [1,2,3] if not (m == 2) %}{% if ns.f %}{% set ns.f = false %}[{{ m }}]{% else %}{{ m }}{% endif %}{% endfor %}",
    "{% macro show(v) %}{% if v is mapping %}{{ '{' }}{% for k, x in v|dictsort %}{{ k }}:{{ show(x) }}{{ ',' if not loop.last }}{% endfor %}{{ '}' }}{% elif v is string %}'{{ v }}'{% elif v is sequence %}[{% for x in v %}{{ show(x) }}{{ ',' if not loop.last }}{% endfor %}]{% else %}{{ v }}{% endif %}{% endmacro %}{{ show({'b': [1, 'x', {'z': none}], 'a': true}) }}",
    "{{ {'a': 1, 'a': 2} }}", "{{ 'x' if 'x' }}{{ '' or none or 0 }}", "{{ true if 1 else false }}{{ [] or {} }}", "{{ [1, 2, 3] is sequence and 'abc' is not mapping }}", "{% set s = '' %}{% for i in range(20) %}{% set s = s ~ i %}{% endfor %}[{{ s }}]", "{% set ns = namespace(s='') %}{% for i in range(30) %}{% set ns.s = ns.s + 'ab' + i|string %}{% endfor %}{{ ns.s }}{% set t = ns.s + 'x' %}{% set v = ns.s + 'y' %}{{ t }}{{ v }}{{ ns.s }}",
    "{% set a = 'abcdefgh' + '' %}{% set b = a + '1' %}{% set c = a + '2' %}{{ a }}{{ b }}{{ c }}{% set e = 'abcdefghij'[:4] + 'Z' %}{{ e }}", "{{ ('a' + 'b')[:1] + 'c' }}{% set q = 'p' ~ 'q' %}{% set r = q + 'r' %}{% set s = q[0] + 's' %}{{ q }}{{ r }}{{ s }}",
]:
    case(t)

# --- chat templates in the forms of the common families, written for this test ----------------------------------------
PLAIN = [{"role": "user", "content": "Hi!"}, {"role": "assistant", "content": " Hello, how are you? \n"},
         {"role": "user", "content": "Fine <b>&</b> \"well\".\n\nYou?"}, {"role": "assistant", "content": "Très bien 😀"}]
SYSTEM = [{"role": "system", "content": "You are terse.\n"}] + PLAIN
TOOLS = [{"type": "function", "function": {"name": "get_weather", "description": "Weather <now> & later", "parameters": {
    "type": "object", "properties": {"city": {"type": "string", "description": "Where"}, "unit": {"type": "string", "enum": ["c", "f"], "default": "c"},
                                     "days": {"type": ["integer", "null"], "minimum": 0.5}}, "required": ["city"]}}},
         {"type": "function", "function": {"name": "now", "description": "", "parameters": {"type": "object", "properties": {}}}}]
CALLS = [{"role": "user", "content": "Weather in Köln?"},
         {"role": "assistant", "content": None, "tool_calls": [{"type": "function", "id": "call12345", "function": {"name": "get_weather", "arguments": {"city": "Köln", "days": 2, "t": 20.0}}}]},
         {"role": "tool", "tool_call_id": "call12345", "name": "get_weather", "content": "{\"temp\": 7}"},
         {"role": "assistant", "content": "7 degrees."}, {"role": "user", "content": "thanks"}]
THINK = [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "<think>\nadd\n</think>\n\n4"}, {"role": "user", "content": "3+3?"},
         {"role": "assistant", "reasoning_content": "easy\n", "content": "6"}]
BAD = [{"role": "assistant", "content": "first"}, {"role": "assistant", "content": "again"}]

FAMILIES = {}
FAMILIES["chatml"] = """{% for message in messages %}{% if loop.first and message['role'] != 'system' %}{{ '<|im_start|>system\nBe kind.<|im_end|>\n' }}{% endif %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"""
FAMILIES["header-ids"] = """{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = '<|start|>' + message['role'] + '<|end|>\n\n' + message['content'] | trim + '<|eot|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}{% if add_generation_prompt %}{{ '<|start|>assistant<|end|>\n\n' }}{% endif %}"""
FAMILIES["inst"] = """{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}{% set system_message = messages[0]['content'] %}{% else %}{% set loop_messages = messages %}{% set system_message = false %}{% endif %}{% for message in loop_messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Roles must alternate user/assistant') }}{% endif %}{% if loop.index0 == 0 and system_message != false %}{% set content = '<<SYS>>\n' + system_message + '\n<</SYS>>\n\n' + message['content'] %}{% else %}{% set content = message['content'] %}{% endif %}{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}{% elif message['role'] == 'assistant' %}{{ ' ' + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}"""
FAMILIES["turns"] = """{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Roles must alternate') }}{% endif %}{% if (message['role'] == 'assistant') %}{% set role = 'model' %}{% else %}{% set role = message['role'] %}{% endif %}{{ '<start>' + role + '\n' + message['content'] | trim + '<end>\n' }}{% endfor %}{% if add_generation_prompt %}{{'<start>model\n'}}{% endif %}"""
FAMILIES["lines"] = """{% for message in messages %}
{% if message['role'] == 'user' %}
{{ '<|user|>\n' + message['content'] + eos_token }}
{% elif message['role'] == 'system' %}
{{ '<|system|>\n' + message['content'] + eos_token }}
{% elif message['role'] == 'assistant' %}
{{ '<|assistant|>\n'  + message['content'] + eos_token }}
{% endif %}
{% if loop.last and add_generation_prompt %}
{{ '<|assistant|>' }}
{% endif %}
{% endfor %}"""
FAMILIES["json-tools"] = """{{- bos_token }}
{%- if custom_tools is defined %}
    {%- set tools = custom_tools %}
{%- endif %}
{%- if not tools_in_user is defined %}
    {%- set tools_in_user = true %}
{%- endif %}
{%- if not date_string is defined %}
    {%- if strftime_now is defined and false %}
        {%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}
        {%- set date_string = "26 Jul 2024" %}
    {%- endif %}
{%- endif %}
{%- if not tools is defined %}
    {%- set tools = none %}
{%- endif %}

{#- the system message comes first #}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}

{{- "<|h|>system<|/h|>\\n\\n" }}
{%- if builtin_tools is defined or tools is not none %}
    {{- "Environment: ipython\\n" }}
{%- endif %}
{%- if builtin_tools is defined %}
    {{- "Tools: " + builtin_tools | reject('equalto', 'code_interpreter') | join(", ") + "\\n\\n"}}
{%- endif %}
{{- "Today Date: " + date_string + "\\n\\n" }}
{%- if tools is not none and not tools_in_user %}
    {%- for t in tools %}
        {{- t | tojson(indent=4) }}
        {{- "\\n\\n" }}
    {%- endfor %}
{%- endif %}
{{- system_message }}
{{- "<|eot|>" }}
{%- if tools_in_user and not tools is none %}
    {%- if messages | length != 0 %}
        {%- set first_user_message = messages[0]['content']|trim %}
        {%- set messages = messages[1:] %}
    {%- else %}
        {{- raise_exception("Cannot put tools in the first user message when there's no first user message!") }}
{%- endif %}
    {{- '<|h|>user<|/h|>\\n\\n' -}}
    {%- for t in tools %}
        {{- t | tojson(indent=4) }}
        {{- "\\n\\n" }}
    {%- endfor %}
    {{- first_user_message + "<|eot|>"}}
{%- endif %}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|h|>' + message['role'] + '<|/h|>\\n\\n'+ message['content'] | trim + '<|eot|>' }}
    {%- elif 'tool_calls' in message %}
        {%- if not message.tool_calls|length == 1 %}
            {{- raise_exception("This model only supports single tool-calls at once!") }}
        {%- endif %}
        {%- set tool_call = message.tool_calls[0].function %}
        {{- '<|h|>assistant<|/h|>\\n\\n' -}}
        {{- '{"name": "' + tool_call.name + '", ' }}
        {{- '"parameters": ' }}
        {{- tool_call.arguments | tojson }}
        {{- "}" }}
        {%- for arg_name, arg_val in tool_call.arguments | items %}
            {{- arg_name + '="' ~ arg_val ~ '"' }}
            {%- if not loop.last %}
                {{- ", " }}
            {%- endif %}
        {%- endfor %}
        {{- "<|eot|>" }}
    {%- elif message.role == "tool" or message.role == "ipython" %}
        {{- "<|h|>ipython<|/h|>\\n\\n" }}
        {%- if message.content is mapping or message.content is iterable %}
            {{- message.content | tojson }}
        {%- else %}
            {{- message.content }}
        {%- endif %}
        {{- "<|eot|>" }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|h|>assistant<|/h|>\\n\\n' }}
{%- endif %}
"""
FAMILIES["xml-think"] = """{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- if messages[0].role == 'system' %}
        {{- messages[0].content + '\\n\\n' }}
    {%- endif %}
    {{- "# Tools\\n\\n<tools>" }}
    {%- for tool in tools %}
        {{- "\\n" }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- "\\n</tools><|im_end|>\\n" }}
{%- else %}
    {%- if messages[0].role == 'system' %}
        {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
    {%- endif %}
{%- endif %}
{%- set ns = namespace(multi_step_tool=true, last_query_index=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi_step_tool and message.role == "user" and message.content is string and not(message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}
        {%- set ns.multi_step_tool = false %}
        {%- set ns.last_query_index = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.content is string %}
        {%- set content = message.content %}
    {%- else %}
        {%- set content = '' %}
    {%- endif %}
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
        {%- if message.tool_calls %}
            {%- for tool_call in message.tool_calls %}
                {%- if (loop.first and content) or (not loop.first) %}
                    {{- '\\n' }}
                {%- endif %}
                {%- if tool_call.function %}
                    {%- set tool_call = tool_call.function %}
                {%- endif %}
                {{- '<tool_call>\\n{"name": "' }}
                {{- tool_call.name }}
                {{- '", "arguments": ' }}
                {%- if tool_call.arguments is string %}
                    {{- tool_call.arguments }}
                {%- else %}
                    {{- tool_call.arguments | tojson }}
                {%- endif %}
                {{- '}\\n</tool_call>' }}
            {%- endfor %}
        {%- endif %}
        {{- '<|im_end|>\\n' }}
    {%- elif message.role == "tool" %}
        {%- if loop.first or (messages[loop.index0 - 1].role != "tool") %}
            {{- '<|im_start|>user' }}
        {%- endif %}
        {{- '\\n<tool_response>\\n' + content + '\\n</tool_response>' }}
        {%- if loop.last or (messages[loop.index0 + 1].role != "tool") %}
            {{- '<|im_end|>\\n' }}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}"""
FAMILIES["mistral-tools"] = """{%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{%- if not tools is defined %}
    {%- set tools = none %}
{%- endif %}
{%- set user_messages = loop_messages | selectattr("role", "equalto", "user") | list %}
{%- set ns = namespace() %}
{%- set ns.index = 0 %}
{%- for message in loop_messages %}
    {%- if not (message.role == "tool" or message.role == "tool_results" or (message.tool_calls is defined and message.tool_calls is not none)) %}
        {%- if (message["role"] == "user") != (ns.index % 2 == 0) %}
            {{- raise_exception("After the optional system message, conversation roles must alternate user/assistant/user/assistant/...") }}
        {%- endif %}
        {%- set ns.index = ns.index + 1 %}
    {%- endif %}
{%- endfor %}
{{- bos_token }}
{%- for message in loop_messages %}
    {%- if message["role"] == "user" %}
        {%- if tools is not none and (message == user_messages[-1]) %}
            {{- "[AVAILABLE_TOOLS] [" }}
            {%- for tool in tools %}
                {%- set tool = tool.function %}
                {{- '{"type": "function", "function": {' }}
                {%- for key, val in tool.items() if key != "return" %}
                    {%- if val is string %}
                        {{- '"' + key + '": "' + val + '"' }}
                    {%- else %}
                        {{- '"' + key + '": ' + val|tojson }}
                    {%- endif %}
                    {%- if not loop.last %}
                        {{- ", " }}
                    {%- endif %}
                {%- endfor %}
                {{- "}}" }}
                {%- if not loop.last %}
                    {{- ", " }}
                {%- else %}
                    {{- "]" }}
                {%- endif %}
            {%- endfor %}
            {{- "[/AVAILABLE_TOOLS]" }}
        {%- endif %}
        {%- if loop.last and system_message is defined %}
            {{- "[INST] " + system_message + "\\n\\n" + message["content"] + "[/INST]" }}
        {%- else %}
            {{- "[INST] " + message["content"] + "[/INST]" }}
        {%- endif %}
    {%- elif message.tool_calls is defined and message.tool_calls is not none %}
        {{- "[TOOL_CALLS] [" }}
        {%- for tool_call in message.tool_calls %}
            {%- set out = tool_call.function|tojson %}
            {{- out[:-1] }}
            {%- if not tool_call.id is defined or tool_call.id|length != 9 %}
                {{- raise_exception("Tool call IDs should be alphanumeric strings with length 9!") }}
            {%- endif %}
            {{- ', "id": "' + tool_call.id + '"}' }}
            {%- if not loop.last %}
                {{- ", " }}
            {%- else %}
                {{- "]" + eos_token }}
            {%- endif %}
        {%- endfor %}
    {%- elif message["role"] == "assistant" %}
        {{- " " + message["content"]|trim + eos_token}}
    {%- elif message["role"] == "tool_results" or message["role"] == "tool" %}
        {%- if message.content is defined and message.content.content is defined %}
            {%- set content = message.content.content %}
        {%- else %}
            {%- set content = message.content %}
        {%- endif %}
        {{- '[TOOL_RESULTS] {"content": ' + content|string + ", " }}
        {{- '"call_id": "' + message.tool_call_id + '"}[/TOOL_RESULTS]' }}
    {%- else %}
        {{- raise_exception("Only user and assistant roles are supported!") }}
    {%- endif %}
{%- endfor %}
"""
FAMILIES["typed-macro"] = """{%- macro json_to_type(spec) -%}
{%- set basic = {"string": "str", "number": "float", "integer": "int", "boolean": "bool"} -%}
{%- if spec.type in basic -%}
{{- basic[spec.type] -}}
{%- elif spec.type == "array" -%}
{{- "list[" + json_to_type(spec|items) + "]" -}}
{%- elif spec.type is iterable and spec.type is not string -%}
{{- "Union[" -}}{%- for t in spec.type -%}{{- json_to_type({"type": t}) -}}{%- if not loop.last -%}{{- "," -}}{%- endif -%}{%- endfor -%}{{- "]" -}}
{%- else -%}
{{- "Any" -}}
{%- endif -%}
{%- endmacro -%}
{{- bos_token -}}
{%- for tool in tools or [] -%}
{%- if tool.function is defined -%}{%- set tool = tool.function -%}{%- endif -%}
{{- tool.name ~ "(" -}}
{%- for name, fields in tool.parameters.properties|items -%}
{{- name ~ ": " ~ json_to_type(fields) -}}
{%- if name in tool.parameters.required|default([]) -%}{{- "*" -}}{%- endif -%}
{%- if not loop.last -%}{{- ", " -}}{%- endif -%}
{%- endfor -%}
{{- ")\\n" -}}
{%- endfor -%}
{%- for message in messages -%}
{%- if loop.previtem and loop.previtem.role == message.role -%}{{- "~" -}}{%- endif -%}
{{- "<" ~ message.role|upper ~ ">" -}}
{%- if message.content is string -%}{{- message.content|replace("<", "&lt;") -}}{%- elif message.tool_calls -%}
{%- for c in message.tool_calls -%}{%- for k, v in c.function.arguments|dictsort -%}{{- k ~ "=" ~ (v|tojson if v is mapping or (v is sequence and v is not string) else v|string) ~ ";" -}}{%- endfor -%}{%- endfor -%}
{%- endif -%}
{%- if loop.nextitem is defined and loop.nextitem.role == "tool" -%}{{- "..." -}}{%- endif -%}
{{- "</>\\n" -}}
{%- endfor -%}"""
FAMILIES["generation"] = """{%- for m in messages %}
    {%- if m.role == 'assistant' %}
        {{- '<|assistant|>' }}
        {%- generation %}
            {{- m.content|default('', true) + eos_token }}
        {%- endgeneration %}
        {{- '\\n' }}
    {%- else %}
        {{- '<|' ~ m.role ~ '|>' ~ m.content ~ '\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|assistant|>' }}{% endif %}"""
FAMILIES["slices"] = """{%- if messages[0].role == 'system' -%}{%- set system = messages[0].content -%}{%- set messages = messages[1:] -%}{%- endif -%}
{{ bos_token }}{% for m in messages -%}
{%- set last = loop.last -%}
{% if m.role == 'user' %}User: {{ m.content.strip() }}
{% elif m.role == 'assistant' %}Assistant: {% if m.content is not none and '</think>' in (m.content or '') %}{{ m.content.split('</think>')[-1].lstrip() }}{% else %}{{ m.content or '' }}{% endif %}{{ eos_token if not last else '' }}
{% else %}{{ m.role|title }}: {{ m.content | indent(2) }}
{% endif %}{%- endfor %}{{ system | default('none') }}{% if add_generation_prompt %}Assistant:{% endif %}"""

SPECIAL = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
SETS = {"plain": PLAIN, "system": SYSTEM, "calls": CALLS, "think": THINK, "bad": BAD, "one": PLAIN[:1]}


def plain(messages):
    """What apply_chat_template passes on: null values left out, reasoning under its aliases."""
    kept = [{k: v for k, v in m.items() if v is not None} for m in messages]
    return ctu._alias_reasoning_fields(kept)


for template in FAMILIES.values():
    for name, messages in SETS.items():
        for tools in (None, TOOLS):
            for prompt in (False, True):
                if tools and name not in ("one", "calls"):
                    continue
                if prompt and name in ("bad", "system"):
                    continue
                case(template, messages=plain(messages), tools=tools, documents=None, add_generation_prompt=prompt, **SPECIAL)

# --- whole numbers of any size keep their digits -----------------------------------------------------------------------
BIG = {"id": 12345678901234567890, "hash": 2**64 - 1, "low": -(2**63) - 1, "edge": 2**63, "exact": 2**64, "ten": 10**18, "more": 10**30, "far": 10**60 + 7,
       "odd": 2**53 + 1, "min": -(2**63), "float": 1e18, "list": [2**70, {"n": -(2**70)}]}
cases(r"""
{{ v|tojson }}
{{ v }}
{{ v.id }}|{{ v.hash|string }}|{{ v.low ~ '' }}|{{ v.far|tojson(indent=2) }}
{{ v.id is number }}{{ v.id is integer }}{{ v.id is float }}{{ v.id is string }}{{ v.id is mapping }}{{ v.id is iterable }}{{ 'x' if v.id }}
{{ v.id == v.id }}{{ v.id == v.hash }}{{ v.id < v.hash }}{{ v.low < v.min }}{{ v.low < 5 }}{{ 5 < v.id }}{{ v.id > 1.5 }}{{ v.low > v.id }}{{ v.id in [v.id] }}{{ v.id != 1 }}
{{ v.id|int }}|{{ v.id|float }}|{{ v.low|abs }}|{{ v.id|round(2) }}|{{ v.low|round }}
{{ '%s' % v.id }}|{{ '%d' % v.low }}|{{ '%30d' % v.id }}|{{ '%+d' % v.hash }}|{{ '{:,}'.format(v.id) }}|{{ '{}'.format(v.low) }}|{{ '{:<40}'.format(v.far) }}|
{{ [v.hash, v.id, v.low]|sort }}|{{ [v.hash, v.id]|min }}|{{ v.list|join(',') }}|{{ {v.id: 1} }}
{{ v.odd }} {{ v.edge }} {{ v.exact }} {{ v.ten }} {{ v.more }} {{ v.min }} {{ v.float }}
""", v=BIG)


def render(template, variables):
    try:
        compiled = ctu._compile_jinja_template(template)
        blocks, spans = [], []
        with compiled.environment.activate_tracker(blocks, spans):
            for block in compiled.generate(**variables):
                blocks.append(block)
        text = "".join(blocks)
    except Exception as error:  # every failure of the reference is a failure here
        return {"error": str(error)}
    out = {"out": text}
    if spans:
        out["spans"] = [[len(text[:a].encode()), len(text[:b].encode())] for a, b in spans]
    return out


def main():
    path = Path(sys.argv[1] if len(sys.argv) > 1 else "tests/golden/templates.jsonl")
    with path.open("w", encoding="utf-8") as f:
        for template, variables in CASES:
            line = {"t": template, **({"v": variables} if variables else {}), **render(template, variables)}
            f.write(json.dumps(line, ensure_ascii=False) + "\n")
    print(f"{len(CASES)} cases in {path}")


if __name__ == "__main__":
    main()
