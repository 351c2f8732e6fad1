#!/usr/bin/perl
# malformed.pl BASE INTO – damaged files, twelve kinds of 25 and more, with one fault planted in each; everything else is what
# the run in BASE has (scripts/attack/lib.sh, make_base).  A case is a folder INTO/KIND-NN: `files` lies over a copy of BASE, `gone`
# names what is taken away, `cmd` holds the words for ft, `names` what the error is to name, `fault` the fault in words.
use strict;
use warnings;

my ($base, $into) = @ARGV;
die "usage: malformed.pl BASE INTO\n" unless defined $into;
my (%count, %text);

sub slurp {
    my ($name) = @_;
    return $text{$name} //= do { open(my $h, '<:raw', "$base/$name") or die "$base/$name: $!\n"; local $/; <$h> };
}
sub put {
    my ($name, $bytes) = @_;
    my $dir = '';
    for my $part (split m{/}, $name) { mkdir $dir if $dir ne '' && !-d $dir; $dir .= $dir eq '' ? $part : "/$part"; }
    open(my $h, '>:raw', $name) or die "$name: $!\n";
    print $h $bytes;
    close $h;
}
# One case.  FILES: name => bytes, undef: taken away.
sub plant {
    my ($kind, $fault, $names, $cmd, %files) = @_;
    my $dir = sprintf '%s/%s-%02d', $into, $kind, ++$count{$kind};
    mkdir $dir or die "$dir: $!\n";
    my @gone = grep { !defined $files{$_} } sort keys %files;
    put("$into/" . sprintf('%s-%02d', $kind, $count{$kind}) . "/files/$_", $files{$_}) for grep { defined $files{$_} } sort keys %files;
    put("$dir/gone", join '', map { "$_\n" } @gone);
    put("$dir/cmd", "$cmd\n");
    put("$dir/names", "$names\n");
    put("$dir/fault", "$fault\n");
}
# A fault by a pattern in a text: it must match, or nothing was planted.
sub edited {
    my ($name, $pattern, $by) = @_;
    my $s = slurp($name);
    $s =~ s/$pattern/$by/s or die "$name: nothing matches $pattern\n";
    return $s;
}

my $asks = 'score --model b --data e.jsonl';
my $trains = 'train run.json --out fresh';

# --- safetensors: the header ------------------------------------------------------------------------------------------------
my $st = slurp('b/model.safetensors');
my $length = unpack 'Q<', substr $st, 0, 8;
my ($header, $data) = (substr($st, 8, $length), substr($st, 8 + $length));
sub tensors { my ($h, $d, $n) = @_; return pack('Q<', $n // length $h) . $h . ($d // $data) }
sub header_case {
    my ($fault, $pattern, $by) = @_;
    my $h = $header;
    $h =~ s/$pattern/$by/s or die "safetensors: nothing matches $pattern\n";
    plant('safetensors', $fault, 'model.safetensors', $asks, 'b/model.safetensors' => tensors($h));
}
sub bytes_case { my ($fault, $bytes) = @_; plant('safetensors', $fault, 'model.safetensors', $asks, 'b/model.safetensors' => $bytes) }
bytes_case('empty file', '');
bytes_case('seven bytes', "\1\0\0\0\0\0\0");
bytes_case('length of the header 0', tensors('', $data, 0));
bytes_case('length of the header 2^63 - 1', "\xff\xff\xff\xff\xff\xff\xff\x7f" . substr($st, 8));
bytes_case('length of the header 2^64 - 1', ("\xff" x 8) . substr($st, 8));
bytes_case('length of the header beyond the file', pack('Q<', length $st) . substr($st, 8));
bytes_case('length of the header one short', pack('Q<', $length - 1) . substr($st, 8));
bytes_case('header cut', substr($st, 0, 200));
bytes_case('data cut by a byte', substr($st, 0, -1));
bytes_case('a byte too many', $st . "\0");
bytes_case('header that is a list', tensors('[]'));
bytes_case('header that is a string', tensors('"x"'));
bytes_case('header with bad UTF-8', tensors($header =~ s/embed/emb\xffd/r));
bytes_case('nested 200 deep', tensors('{"a":' . ('[' x 200) . (']' x 200) . '}'));
bytes_case('zip magic', "PK\3\4" . substr($st, 4));
header_case('type that does not exist', '"dtype":"F32"', '"dtype":"F31"');
header_case('type that is a number', '"dtype":"F32"', '"dtype":32');
header_case('no type', '"dtype":"F32",', '');
header_case('no shape', '"shape":\[640,32\],', '');
header_case('no offsets', ',"data_offsets":\[0,81920\]', '');
header_case('negative dimension', '\[640,32\]', '[-640,32]');
header_case('dimension with a fraction', '\[640,32\]', '[640.5,32]');
header_case('product of dimensions beyond 2^64', '\[640,32\]', '[4294967296,4294967296,640,32]');
header_case('shape and bytes that differ', '\[640,32\]', '[640,31]');
header_case('begin behind end', '\[0,81920\]', '[81920,0]');
header_case('end beyond the file', '\[0,81920\]', '[0,99999999]');
header_case('end of 2^63', '\[0,81920\]', '[0,9223372036854775808]');
header_case('overlap', '\[81920,82048\]', '[81000,81128]');
header_case('hole', '\[81920,82048\]', '[81924,82052]');
header_case('name twice', 'model\.layers\.1\.input_layernorm', 'model.layers.0.input_layernorm');
header_case('one offset', '\[0,81920\]', '[81920]');
header_case('metadata that is a number', '"format":"pt"', '"format":1');
header_case('tensor that is a list', '\{"dtype":"F32","shape":\[640,32\],"data_offsets":\[0,81920\]\}', '[0,81920]');

# --- the index of shards ------------------------------------------------------------------------------------------------------
my $index = '{"metadata":{"total_size":1},"weight_map":{"model.norm.weight":"one.safetensors"}}';
for my $c (['empty', ''], ['no JSON', '{'], ['a list', '[]'], ['no map', '{"metadata":{}}'], ['map that is a list', '{"weight_map":[]}'],
    ['empty map', '{"weight_map":{}}'], ['shard that is a number', '{"weight_map":{"a":1}}'], ['shard that is null', '{"weight_map":{"a":null}}'],
    ['shard without a name', '{"weight_map":{"a":""}}'], map { ["shard named $_", "{\"weight_map\":{\"model.norm.weight\":\"$_\"}}"] }
    '..', '.', '../b/model.safetensors', '/etc/passwd', '/dev/zero', 'sub/one.safetensors', './one.safetensors', '..\\\\x', 'a\\u0000b',
    'nowhere.safetensors', '~/x', 'file:///etc/passwd', "a\\u001b[31m", '/proc/self/mem', 'config.json', 'model.safetensors/') {
    plant('index', $c->[0], '(model.safetensors.index.json|safetensors|/|config.json)', $asks,
        'b/model.safetensors' => undef, 'b/model.safetensors.index.json' => $c->[1], 'b/one.safetensors' => $st);
}
plant('index', 'name twice', 'index.json', $asks, 'b/model.safetensors' => undef, 'b/one.safetensors' => $st,
    'b/model.safetensors.index.json' => '{"weight_map":{"a":"one.safetensors","a":"one.safetensors"}}');

# --- GGUF ---------------------------------------------------------------------------------------------------------------------
my $gguf = slurp('b.gguf');
sub at { my $p = index $gguf, $_[0]; die "b.gguf: no $_[0]\n" if $p < 0; return $p + length $_[0] } # behind a name
sub poked { my ($where, $bytes) = @_; my $s = $gguf; substr($s, $where, length $bytes) = $bytes; return $s }
sub gguf_case { my ($fault, $bytes) = @_; plant('gguf', $fault, 'x.gguf', 'score --model x.gguf --data e.jsonl', 'x.gguf' => $bytes) }
my ($arch, $blocks, $list, $tensor) = (at('general.architecture'), at('llama.block_count'), at('tokenizer.ggml.tokens'), at('blk.0.attn_q.weight'));
gguf_case('empty', '');
gguf_case('magic alone', 'GGUF');
gguf_case('other magic', poked(0, 'GGUG'));
gguf_case('magic the other way round', poked(0, 'FUGG'));
gguf_case('version 0', poked(4, pack 'V', 0));
gguf_case('version 1', poked(4, pack 'V', 1));
gguf_case('version of 2^32 - 1', poked(4, pack 'V', 0xffffffff));
gguf_case('version of the other byte order', poked(4, pack 'N', 3));
gguf_case('tensors: 2^63', poked(8, pack 'Q<', 1 << 63));
gguf_case('tensors: one too many', poked(8, pack 'Q<', 1 + unpack 'Q<', substr $gguf, 8, 8));
gguf_case('tensors: none', poked(8, pack 'Q<', 0));
gguf_case('keys: 2^64 - 1', poked(16, "\xff" x 8));
gguf_case('keys: one too many', poked(16, pack 'Q<', 1 + unpack 'Q<', substr $gguf, 16, 8));
gguf_case('keys: none', poked(16, pack 'Q<', 0));
gguf_case('length of a key 2^64 - 1', poked(24, "\xff" x 8));
gguf_case('length of a key 0', poked(24, pack 'Q<', 0));
gguf_case('type of a value 13', poked($arch, pack 'V', 13));
gguf_case('type of a value 2^32 - 1', poked($arch, pack 'V', 0xffffffff));
gguf_case('length of a string 2^63', poked($arch + 4, pack 'Q<', 1 << 63));
gguf_case('architecture that does not exist', poked($arch + 12, 'lamma'));
gguf_case('blocks: 0', poked($blocks + 4, pack 'V', 0));
gguf_case('blocks: 2^31', poked($blocks + 4, pack 'V', 1 << 31));
gguf_case('blocks as a float', poked($blocks, pack 'V', 6));
gguf_case('list of 2^63', poked($list + 8, pack 'Q<', 1 << 63));
gguf_case('list of 2^61 strings', poked($list + 8, pack 'Q<', 1 << 61));
gguf_case('list of lists', poked($list + 4, pack 'V', 9));
gguf_case('list of a type that does not exist', poked($list + 4, pack 'V', 77));
gguf_case('dimensions: 0', poked($tensor, pack 'V', 0));
gguf_case('dimensions: 5', poked($tensor, pack 'V', 5));
gguf_case('dimensions: 2^32 - 1', poked($tensor, pack 'V', 0xffffffff));
gguf_case('a dimension of 0', poked($tensor + 4, pack 'Q<', 0));
gguf_case('a dimension of 2^63', poked($tensor + 4, pack 'Q<', 1 << 63));
gguf_case('product beyond 2^64', poked($tensor + 4, pack('Q<', 1 << 33) . pack('Q<', 1 << 33)));
gguf_case('a dimension one more', poked($tensor + 4, pack 'Q<', 33));
gguf_case('type of a tensor 4', poked($tensor + 20, pack 'V', 4));
gguf_case('type of a tensor 999', poked($tensor + 20, pack 'V', 999));
gguf_case('offset beyond the file', poked($tensor + 24, pack 'Q<', 1 << 40));
gguf_case('offset of 2^64 - 32', poked($tensor + 24, pack 'q<', -32));
gguf_case('offset that is not aligned', poked($tensor + 24, pack 'Q<', 3 + unpack 'Q<', substr $gguf, $tensor + 24, 8));
gguf_case('data cut', substr $gguf, 0, -64);
gguf_case('cut in the keys', substr $gguf, 0, 300);
gguf_case('cut in the tensors', substr $gguf, 0, $tensor + 10);
gguf_case('name of a tensor with a NUL', poked($tensor - 3, "\0"));

# --- tokenizer.json ------------------------------------------------------------------------------------------------------------
sub tok_case {
    my ($fault, $pattern, $by) = @_;
    plant('tokenizer', $fault, 'tokenizer', $asks, 'b/tokenizer.json' => edited('b/tokenizer.json', $pattern, $by));
}
sub tok_bytes { my ($fault, $bytes) = @_; plant('tokenizer', $fault, 'tokenizer', $asks, 'b/tokenizer.json' => $bytes) }
tok_bytes('empty', '');
tok_bytes('cut', substr slurp('b/tokenizer.json'), 0, 5000);
tok_bytes('a list', '[]');
tok_bytes('a BOM', "\xef\xbb\xbf" . slurp('b/tokenizer.json'));
tok_bytes('text behind the end', slurp('b/tokenizer.json') . '{}');
tok_bytes('no model', '{"version":"1.0"}');
tok_bytes('not JSON', 'garbage!');
tok_case('model that is a list', '"model": *\{', '"model": [], "x": {');
tok_case('kind of model that does not exist', '"type": *"BPE"', '"type": "BPF"');
tok_case('vocabulary that is a list', '"vocab": *\{.*?\}', '"vocab": []');
tok_case('vocabulary that is empty', '"vocab": *\{.*?\}', '"vocab": {}');
tok_case('id below 0', '("vocab": *\{\s*"[^"]*": *)\d+', '"vocab": {"x": -1');
tok_case('id of 2^31', '"vocab": *\{\s*"[^"]*": *\d+', '"vocab": {"x": 2147483648');
tok_case('id of 1e300', '"vocab": *\{\s*"[^"]*": *\d+', '"vocab": {"x": 1e300');
tok_case('id with a fraction', '"vocab": *\{\s*"[^"]*": *\d+', '"vocab": {"x": 1.5');
tok_case('id that is a text', '"vocab": *\{\s*"[^"]*": *\d+', '"vocab": {"x": "0"');
tok_case('merges that are a number', '"merges": *\[.*\]', '"merges": 3');
tok_case('merge of one part', '"merges": *\[\s*\[[^\]]*\]', '"merges": [["a"]');
tok_case('merge of three parts', '"merges": *\[\s*\[[^\]]*\]', '"merges": [["a","b","c"]');
tok_case('merge of unknown parts', '"merges": *\[\s*\[[^\]]*\]', '"merges": [["nowhere","nothing"]');
tok_case('merge longer than any word', '"merges": *\[\s*\[[^\]]*\]', '"merges": [["' . ('q' x 5000) . '","x"]');
tok_case('pre-tokenizer that does not exist', '"type": *"ByteLevel"', '"type": "ByteLevl"');
tok_case('pre-tokenizer that is a list', '"pre_tokenizer": *\{', '"pre_tokenizer": [], "y": {');
tok_case('normalizer that does not exist', '"normalizer": *null', '"normalizer": {"type": "Shout"}');
tok_case('regex that is none', '"normalizer": *null', '"normalizer": {"type": "Replace", "pattern": {"Regex": "("}, "content": "x"}');
tok_case('added token without a text', '"content": *"<\|im_start\|>",', '');
tok_case('added token with an id that is a text', '"id": *1,', '"id": "1",');
tok_case('added token of id -5', '"id": *1,', '"id": -5,');
tok_case('added tokens that are a number', '"added_tokens": *\[.*?\]', '"added_tokens": 5');
tok_case('key twice', '"version": *"1.0"', '"version": "1.0", "version": "1.0"');

# --- tokenizer_config.json and templates -----------------------------------------------------------------------------------------
my $chats = 'generate --model b --chat --prompt Hi --max-new-tokens 1';
my $template = qr/"chat_template": *"(?:[^"\\]|\\.)*"/;
sub side_case {
    my ($fault, $by) = @_;
    plant('template', $fault, '(tokenizer_config.json|template)', $chats, 'b/tokenizer_config.json' => edited('b/tokenizer_config.json', $template, $by));
}
plant('template', 'empty', 'tokenizer_config.json', $chats, 'b/tokenizer_config.json' => '');
plant('template', 'a list', 'tokenizer_config.json', $chats, 'b/tokenizer_config.json' => '[]');
plant('template', 'cut', 'tokenizer_config.json', $chats, 'b/tokenizer_config.json' => substr slurp('b/tokenizer_config.json'), 0, 300);
for my $t ('{% for', '{% for m in messages %}', '{{ 1 + }}', '{% if %}x{% endif %}', '{% endfor %}', '{{ nothing.at.all.here }}', '{{ messages[99].content }}',
    '{{ raise_exception(\'no\') }}', '{{ 1 // 0 }}', '{{ 1 % 0 }}', '{% include \'x\' %}', '{% import \'os\' as os %}', '{{ \'a\' * 99999999999 }}',
    '{{ open(\'/etc/passwd\') }}', '{{ messages | nofilter }}', '{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}', '{{ \'x\' is notest }}',
    '{% for i in range(999999999) %}x{% endfor %}', '{{ ' . ('(' x 3000) . '1' . (')' x 3000) . ' }}', '{{ [1,2,3', '{# never ends', '{{ \'never ends }}',
    '{% set x = %}', '{{ messages[0][\'content\'](1) }}', '{% block a %}') {
    side_case("template $t", '"chat_template": "' . ($t =~ s/\\/\\\\/gr =~ s/"/\\"/gr) . '"');
}
side_case('template that is a number', '"chat_template": 5');

# --- config.json of a model ------------------------------------------------------------------------------------------------------
sub model_case {
    my ($fault, $pattern, $by) = @_;
    plant('model', $fault, '(config.json|safetensors|b: )', $asks, 'b/config.json' => edited('b/config.json', $pattern, $by));
}
plant('model', 'empty', 'config.json', $asks, 'b/config.json' => '');
plant('model', 'a list', 'config.json', $asks, 'b/config.json' => '[]');
plant('model', 'cut', 'config.json', $asks, 'b/config.json' => substr slurp('b/config.json'), 0, 60);
plant('model', 'missing', 'config.json', $asks, 'b/config.json' => undef);
model_case('family that does not exist', '"llama"', '"lama"');
model_case('family that is a number', '"model_type": "llama"', '"model_type": 3');
model_case('no family', '"model_type": "llama", ', '');
for my $k ('vocab_size', 'hidden_size', 'intermediate_size', 'num_hidden_layers', 'num_attention_heads', 'num_key_value_heads') {
    model_case("$k 0", "\"$k\": \\d+", "\"$k\": 0");
    model_case("$k below 0", "\"$k\": \\d+", "\"$k\": -4");
    model_case("$k of 2^62", "\"$k\": \\d+", "\"$k\": 4611686018427387904");
    model_case("$k as a text", "\"$k\": \\d+", "\"$k\": \"32\"");
    model_case("$k with a fraction", "\"$k\": \\d+", "\"$k\": 31.5");
}
model_case('heads that do not divide', '"num_attention_heads": 4', '"num_attention_heads": 3');
model_case('groups that do not divide', '"num_key_value_heads": 2', '"num_key_value_heads": 3');
model_case('more layers than weights', '"num_hidden_layers": 2', '"num_hidden_layers": 3');
model_case('width of others', '"hidden_size": 32', '"hidden_size": 64');
model_case('activation that does not exist', '"silu"', '"sulu"');
model_case('epsilon below 0', '1e-5', '-1e-5');
model_case('epsilon of 1e999', '1e-5', '1e999');
model_case('key twice', '"vocab_size": 640', '"vocab_size": 640, "vocab_size": 640');
model_case('rope scaling of a kind that does not exist', '"hidden_act"', '"rope_scaling": {"rope_type": "magic", "factor": 2}, "hidden_act"');

# --- the config of a run -----------------------------------------------------------------------------------------------------------
sub run_case {
    my ($fault, $pattern, $by) = @_;
    plant('config', $fault, 'run.json', $trains, 'run.json' => edited('run.json', $pattern, $by));
}
sub run_bytes { my ($fault, $bytes) = @_; plant('config', $fault, 'run.json', $trains, 'run.json' => $bytes) }
my $run = slurp('run.json');
run_bytes('empty', '');
run_bytes('a list', '[]');
run_bytes('cut', substr $run, 0, 80);
run_bytes('a BOM', "\xef\xbb\xbf$run");
run_bytes('text behind the end', "$run x");
run_bytes('NUL', $run =~ s/train/tr\0in/r);
run_bytes('bad UTF-8', $run =~ s/"o"/"\xc3("/r);
run_bytes('nested 100 deep', '{"model":' . ('[' x 100) . (']' x 100) . '}');
run_case('comma at the end', '\}\s*\}\s*$', '},}');
run_case('leading zero', '"r": 4', '"r": 04');
run_case('number without digits', '0\.005', '1.');
run_case('NaN', '0\.005', 'NaN');
run_case('1e999', '0\.005', '1e999');
run_case('2^53 + 1', '"max_steps": 20', '"max_steps": 9007199254740993');
run_case('key twice', '"r": 4', '"r": 4, "r": 4');
run_case('comment', '"r": 4', '"r": 4 /* four */');
run_case('single quotes', '"lora"', q('lora'));
run_case('\\u0000', '"o"', '"a\\u0000b"');
run_case('half of a pair', '"o"', '"\\ud800"');
run_case('unknown key', '"r": 4', '"rank": 4');
run_case('unknown section', '"method"', '"methods"');
run_case('wrong type', '"r": 4', '"r": "four"');
run_case('below the range', '"r": 4', '"r": 0');
run_case('above the range', '0\.1', '1.1');
run_case('null', '"r": 4', '"r": null');
run_case('fraction of an integer', '"r": 4', '"r": 4.5');
run_case('method that does not exist', '"lora"', '"lorra"');
run_case('true for a number', '"batch_size": 4', '"batch_size": true');
run_case('control byte in a text', '"o"', "\"a\nb\"");

# --- records ----------------------------------------------------------------------------------------------------------------------
my $good = "{\"text\": \"fine\"}\n";
sub record_case {
    my ($fault, $bytes, $name) = @_;
    $name //= 'd.jsonl';
    plant('records', $fault, "\Q$name\E", "$trains --set data.train=$name", $name => $bytes);
}
record_case('empty', '');
record_case('blank lines only', "\n\n\n");
record_case('cut', "$good\{\"text\": \"cut\n");
record_case('other keys', "$good\{\"txt\": \"what\"}\n");
record_case('number for a text', "$good\{\"text\": 3}\n");
record_case('null for a text', "$good\{\"text\": null}\n");
record_case('list for a record', "$good\[1]\n");
record_case('bad UTF-8', "$good\{\"text\": \"\xff\xfe\"}\n");
record_case('surrogate in UTF-8', "$good\{\"text\": \"\xed\xa0\x80\"}\n");
record_case('overlong UTF-8', "$good\{\"text\": \"\xc0\xaf\"}\n");
record_case('NUL', "$good\{\"text\": \"a\0b\"}\n");
record_case('two records in a line', "$good\{\"text\": \"a\"}{\"text\": \"b\"}\n");
record_case('key twice', "$good\{\"text\": \"a\", \"text\": \"b\"}\n");
record_case('no assistant', "{\"messages\": [{\"role\": \"user\", \"content\": \"hi\"}]}\n");
record_case('role that does not exist', "{\"messages\": [{\"role\": \"wizard\", \"content\": \"hi\"}]}\n");
record_case('content that is a number', "{\"messages\": [{\"role\": \"user\", \"content\": 1}, {\"role\": \"assistant\", \"content\": \"x\"}]}\n");
record_case('messages that are a text', "{\"messages\": \"hi\"}\n");
record_case('messages that are empty', "{\"messages\": []}\n");
record_case('turn that is a text', "{\"messages\": [\"hi\"]}\n");
record_case('ids beyond the vocabulary', "{\"input_ids\": [1, 2, 99999], \"labels\": [1, 2, 3]}\n");
record_case('ids below 0', "{\"input_ids\": [1, -2, 3], \"labels\": [1, 2, 3]}\n");
record_case('ids with fractions', "{\"input_ids\": [1, 2.5, 3], \"labels\": [1, 2, 3]}\n");
record_case('fewer labels than ids', "{\"input_ids\": [1, 2], \"labels\": [1]}\n");
record_case('nested 300 deep', '{"text": ' . ('[' x 300) . (']' x 300) . "}\n");
record_case('1e999', "{\"text\": 1e999}\n");
record_case('a list without an end', '[{"text": "a"}', 'd.json');
record_case('an object that is no list', '{"text": "a"', 'd.json');
record_case('a list of texts', '["a", "b"]', 'd.json');
record_case('text behind a list', '[{"text": "a"}] x', 'd.json');
record_case('quote without an end', "text\n\"never ends\n", 'd.csv');
record_case('columns too many', "text\na,b,c\n", 'd.csv');
record_case('header alone', "text\n", 'd.csv');
record_case('bad UTF-8 in a table', "text\n\xff\n", 'd.csv');
record_case('bad UTF-8 in a text', "fine\n\xff\n", 'd.txt');
record_case('empty text', '', 'd.txt');

# --- packed data --------------------------------------------------------------------------------------------------------------------
sub packed { my ($by, $bytes) = @_; put("$into/raw", $bytes); my $z = `$by < '$into/raw'`; unlink "$into/raw"; return $z }
my $gz = packed('gzip -nc', $good x 200);
sub gz_case { my ($fault, $bytes) = @_; plant('packed', $fault, 'd.jsonl.gz', "$trains --set data.train=d.jsonl.gz", 'd.jsonl.gz' => $bytes) }
gz_case('empty', '');
gz_case('plain text', $good);
gz_case('magic alone', "\x1f\x8b");
gz_case('cut in the header', substr $gz, 0, 9);
gz_case('cut in the data', substr $gz, 0, int(length($gz) / 2));
gz_case('no trailer', substr $gz, 0, -8);
gz_case('half of the trailer', substr $gz, 0, -4);
gz_case('a byte short', substr $gz, 0, -1);
gz_case('bytes behind the end', $gz . 'garbage');
gz_case('a second member that is cut', $gz . substr $gz, 0, 15);
gz_case('a member of bad data', $gz . (substr($gz, 0, 10) . ("\xff" x 20)));
for my $c ([0, 'magic'], [1, 'magic'], [2, 'method'], [3, 'flags', 0xe0], [10, 'data'], [length($gz) - 8, 'checksum'], [length($gz) - 5, 'checksum'],
    [length($gz) - 4, 'length'], [length($gz) - 1, 'length']) {
    my $s = $gz;
    substr($s, $c->[0], 1) = chr(ord(substr $s, $c->[0], 1) ^ ($c->[2] // 0x55));
    gz_case("$c->[1] changed at byte $c->[0]", $s);
}
gz_case('bad record inside', packed('gzip -nc', "$good\{bad\n"));
gz_case('bad UTF-8 inside', packed('gzip -nc', "$good\{\"text\": \"\xff\"}\n"));
gz_case('pickle', "\x80\x02}q\0.");
gz_case('zip', "PK\3\4" . ("\0" x 40));
gz_case('empty inside', packed('gzip -nc', ''));
my $zst = "\x28\xb5\x2f\xfd"; # the magic of zstd
for my $c (['magic alone', $zst], ['window of 2^41', $zst . "\0\xff" . ("\0" x 8)], ['garbage behind the magic', $zst . ("\xff" x 30)], ['empty', ''], ['plain text', $good]) {
    plant('packed', "zst: $c->[0]", 'd.jsonl.zst', "$trains --set data.train=d.jsonl.zst", 'd.jsonl.zst' => $c->[1]);
}

# --- adapters ---------------------------------------------------------------------------------------------------------------------------
my $merges = 'merge-adapter a --base b --out fresh';
sub adapter_case {
    my ($fault, $pattern, $by) = @_;
    plant('adapter', $fault, '(adapter_config.json|adapter_model|lora|a: )', $merges, 'a/adapter_config.json' => edited('a/adapter_config.json', $pattern, $by));
}
my $ad = slurp('a/adapter_model.safetensors');
my $ah = unpack 'Q<', substr $ad, 0, 8;
sub factor_case {
    my ($fault, $pattern, $by) = @_;
    my $h = substr $ad, 8, $ah;
    $h =~ s/$pattern/$by/s or die "adapter: nothing matches $pattern\n";
    plant('adapter', $fault, '(adapter_model|a: |lora)', $merges, 'a/adapter_model.safetensors' => tensors($h, substr $ad, 8 + $ah));
}
plant('adapter', 'config missing', 'adapter_config.json', $merges, 'a/adapter_config.json' => undef);
plant('adapter', 'factors missing', 'adapter_model', $merges, 'a/adapter_model.safetensors' => undef);
plant('adapter', 'config empty', 'adapter_config.json', $merges, 'a/adapter_config.json' => '');
plant('adapter', 'config a list', 'adapter_config.json', $merges, 'a/adapter_config.json' => '[]');
plant('adapter', 'factors cut', 'adapter_model', $merges, 'a/adapter_model.safetensors' => substr $ad, 0, -10);
plant('adapter', 'factors empty', 'adapter_model', $merges, 'a/adapter_model.safetensors' => '');
plant('adapter', 'pickle', '(adapter_model|a: )', $merges, 'a/adapter_model.safetensors' => undef, 'a/adapter_model.bin' => "\x80\x02}q\0.");
adapter_case('kind that does not exist', '"LORA"', '"LOHA"');
adapter_case('no kind', '"peft_type": "LORA",', '');
adapter_case('rank 0', '"r": 4', '"r": 0');
adapter_case('rank of others', '"r": 4', '"r": 8');
adapter_case('rank below 0', '"r": 4', '"r": -4');
adapter_case('rank of 2^40', '"r": 4', '"r": 1099511627776');
adapter_case('rank as a text', '"r": 4', '"r": "4"');
adapter_case('alpha that is a list', '"lora_alpha": 16', '"lora_alpha": [16]');
adapter_case('alpha of 1e999', '"lora_alpha": 16', '"lora_alpha": 1e999');
adapter_case('DoRA', '"use_dora": false', '"use_dora": true');
adapter_case('bias that does not exist', '"bias": "none"', '"bias": "some"');
adapter_case('targets that are a number', '"target_modules": \[.*?\]', '"target_modules": 7');
adapter_case('targets of a regex that is none', '"target_modules": \[.*?\]', '"target_modules": "(q_proj"');
adapter_case('target that is not there', '"q_proj"', '"query_proj"');
adapter_case('pattern of ranks that is a list', '"rank_pattern": \{\}', '"rank_pattern": [1]');
adapter_case('key twice', '"r": 4', '"r": 4, "r": 4');
factor_case('factor missing', 'layers\.0\.self_attn\.q_proj\.lora_A', 'layers.0.self_attn.q_proj.lora_C');
factor_case('factor of a layer that is not there', 'layers\.1\.self_attn\.q_proj\.lora_A', 'layers.9.self_attn.q_proj.lora_A');
factor_case('factor of a module that is not there', 'layers\.1\.self_attn\.q_proj\.lora_A', 'layers.1.self_attn.z_proj.lora_A');
factor_case('factor of another shape', '"shape":\[4,32\]', '"shape":[32,4]');
factor_case('type that does not exist', '"dtype":"F32"', '"dtype":"F99"');

# --- checkpoints of ours ------------------------------------------------------------------------------------------------------------------
my $step = 'a/checkpoints/step-20';
my $looks = "inspect $step";
for my $name ('manifest.json', 'state.json', 'params.safetensors', 'optimizer.safetensors', 'adapter_model.safetensors', 'adapter_config.json') {
    my $s = slurp("$step/$name");
    my $flip = $s;
    substr($flip, int(length($s) / 2), 1) = chr(ord(substr $s, int(length($s) / 2), 1) ^ 4);
    plant('checkpoint', "$name empty", 'step-20', $looks, "$step/$name" => '');
    plant('checkpoint', "$name cut", 'step-20', $looks, "$step/$name" => substr $s, 0, int(length($s) / 3));
    plant('checkpoint', "$name longer", 'step-20', $looks, "$step/$name" => "$s ");
    plant('checkpoint', "$name with a bit turned", 'step-20', $looks, "$step/$name" => $flip);
}
my $manifest = slurp("$step/manifest.json");
for my $c (['other step', '"step": 20', '"step": 21'], ['no seal', ',\s*"seal": "[^"]*"', ''], ['other seal', '"seal": "..', '"seal": "00'],
    ['format 2', '"format": 1', '"format": 2'], ['name with ..', '"name": "state.json"', '"name": "../state.json"'], ['bytes below 0', '"bytes": \d+', '"bytes": -1']) {
    plant('checkpoint', "manifest: $c->[0]", 'step-20', $looks, "$step/manifest.json" => $manifest =~ s/$c->[1]/$c->[2]/r);
}

# --- questions: eval, score, generate --------------------------------------------------------------------------------------------------------
sub ask_case {
    my ($fault, $cmd, $bytes, $names) = @_;
    plant('questions', $fault, $names // 'q.json', $cmd, 'q.json' => $bytes);
}
my $judges = 'eval q.json';
my $tasks = '"tasks":[{"name":"p","type":"perplexity","data":"e.jsonl"}]';
ask_case('config empty', $judges, '');
ask_case('config a list', $judges, '[]');
ask_case('no model', $judges, "{$tasks}");
ask_case('no tasks', $judges, '{"model":{"path":"b"}}', '(q.json|tasks)');
ask_case('tasks that are none', $judges, '{"model":{"path":"b"},"tasks":[]}');
ask_case('task that does not exist', $judges, '{"model":{"path":"b"},"tasks":[{"name":"p","type":"perplex","data":"e.jsonl"}]}');
ask_case('task without data', $judges, '{"model":{"path":"b"},"tasks":[{"name":"p","type":"perplexity"}]}');
ask_case('task twice', $judges, '{"model":{"path":"b"},"tasks":[{"name":"p","type":"perplexity","data":"e.jsonl"},{"name":"p","type":"perplexity","data":"e.jsonl"}]}');
ask_case('gate of a task that is not there', $judges, "{\"model\":{\"path\":\"b\"},$tasks,\"gates\":{\"q.nll\":{\"max\":1}}}");
ask_case('gate of a metric that is not there', $judges, "{\"model\":{\"path\":\"b\"},$tasks,\"gates\":{\"p.accuracy\":{\"max\":1}}}", '(q.json|accuracy)');
ask_case('gate that is a text', $judges, "{\"model\":{\"path\":\"b\"},$tasks,\"gates\":{\"p.nll\":\"low\"}}");
ask_case('bound that does not exist', $judges, "{\"model\":{\"path\":\"b\"},$tasks,\"gates\":{\"p.nll\":{\"most\":1}}}");
my $scores = 'score --model b --data q.json';
ask_case('no JSON', $scores, "{\n");
ask_case('other keys', $scores, "{\"txt\":\"a\"}\n");
ask_case('number for a text', $scores, "{\"text\":1}\n");
ask_case('ids beyond the vocabulary', $scores, "{\"tokens\":[1,99999]}\n");
ask_case('ids below 0', $scores, "{\"tokens\":[1,-1]}\n");
ask_case('start beyond the end', $scores, "{\"tokens\":[1,2],\"start\":9}\n");
ask_case('more ids than positions', $scores, '{"tokens":[' . join(',', (5) x 500) . "]}\n", '(q.json|positions)');
ask_case('context without a continuation', $scores, "{\"context\":\"a\"}\n");
ask_case('list for a record', $scores, "[1,2]\n");
ask_case('bad UTF-8', $scores, "{\"text\":\"\xff\"}\n");
my $says = 'generate --model b --data q.json --max-new-tokens 1';
ask_case('prompt that is a number', $says, "{\"prompt\":1}\n");
ask_case('no prompt', $says, "{\"id\":1}\n");
ask_case('messages that are a text', $says, "{\"messages\":\"hi\"}\n");
ask_case('temperature below 0', $says, "{\"prompt\":\"a\",\"temperature\":-1}\n");
ask_case('stop that is a number', $says, "{\"prompt\":\"a\",\"stop\":5}\n");
ask_case('tokens below 0', $says, "{\"prompt\":\"a\",\"max_new_tokens\":-1}\n");
ask_case('ids beyond the vocabulary', $says, "{\"tokens\":[99999]}\n");

for my $kind (sort keys %count) { printf "%s %d\n", $kind, $count{$kind} }
