"""Small tokenizers of every kind and strings that are hard for them; for make_golden_tokenizers.py and
fuzz_tokenizers.py.  Everything is a pure function of the seeds written here."""
import io
import random

import sentencepiece
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

N, P, D = normalizers, pre_tokenizers, decoders

TEXT = """The quick brown fox jumps over the lazy dog, and then it does it again; the dog doesn't care.
I'm sure they're here: we'll see what you've done. He said "it's fine" and she'd agreed (more or less).
In 1984 there were 12345 of them, 3.14159 on average, costing $1,299.00 each -- or 50% off!
def tokenize(text: str) -> list[int]:\n    for i, word in enumerate(text.split()):\n        yield vocab[word] + i * 2
    if (x == 0 && y != 1) { return foo_bar[x++]; }  // a comment\n\treturn "tab\\tquoted";
Größe, Straße und Übermut; déjà vu à la carte, garçon; niño, mañana; český, żółć; İstanbul, ışık.
Привет, мир! Как дела? Всё хорошо, спасибо. Γειά σου Κόσμε, τι κάνεις;
你好，世界！今天天气很好。我们去公园散步吧。日本語のテキストです。カタカナとひらがな。한국어 텍스트도 있습니다.
مرحبا بالعالم، كيف حالك؟ שלום עולם. हिन्दी में कुछ शब्द। ภาษาไทยไม่มีช่องว่าง
Emoji: 😀😃 👍🏽 👨‍👩‍👧‍👦 🇩🇪🇫🇷 ❤️ ✨ and symbols ≤ ≥ ± √ ∑ → ⇒ © ® ™ … — –
""".replace("\\t", "\t")
WORDS = ("the of and to in a is that for it was on are as with his they at be this have from or one had by hot word but "
         "what some we can out other were all there when up use your how said an each she which do their time if will way "
         "about many then them write would like so these her long make thing see him two has look more day could go come "
         "did number sound no most people my over know water than call first who may down side been now find any new work "
         "part take get place made live where after back little only round man year came show every good me give our under"
         ).split()


def corpus():
    rng = random.Random(5)
    lines = TEXT.splitlines() * 4
    for _ in range(400):
        lines.append(" ".join(rng.choice(WORDS) for _ in range(rng.randint(3, 14))).capitalize() + rng.choice(".!?"))
    return lines


GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"
          r"\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
QWEN35 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|"
          r"\s*[\r\n]+|\s+(?!\S)|\s+")
UP, LO = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
C = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
O200K = (r"[^\r\n\p{L}\p{N}]?" + UP + "*" + LO + "+" + C + r"|[^\r\n\p{L}\p{N}]?" + UP + "+" + LO + "*" + C +
         r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
TEKKEN = O200K.replace(C, "").replace("{1,3}", "")
CL100K = (r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|"
          r"\s+(?!\S)|\s")
KIMI = (r"[\p{Han}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+" + C +
        r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
DS3 = ('[!"#$%' + r"&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|"
       r"\s*[\r\n]+|\s+(?!\S)|\s+")
BLOOM = r" ?[^(\s|[.,!?…。，、।۔،])]+"
SUPERBPE = r"(?=(\d{3})+(?!\d))"
REGEXES = {"gpt2": GPT2, "llama3": LLAMA3, "qwen2": QWEN2, "qwen35": QWEN35, "o200k": O200K, "tekken": TEKKEN,
           "cl100k": CL100K, "kimi": KIMI, "ds3": DS3, "bloom": BLOOM}


def split(regex, behavior="isolated", invert=False):
    return P.Split(Regex(regex), behavior, invert)


def raw_bytes():
    return P.ByteLevel(add_prefix_space=False, use_regex=False)


def probe(normalizer=None, pre=None):
    """A model that shows every byte and every end of a word: ids tell exactly how a text was split."""
    alphabet = sorted(P.ByteLevel.alphabet())
    vocab = {c: i for i, c in enumerate(alphabet)}
    vocab.update({c + "</w>": 256 + i for i, c in enumerate(alphabet)})
    t = Tokenizer(models.BPE(vocab=vocab, merges=[], end_of_word_suffix="</w>"))
    if normalizer is not None:
        t.normalizer = normalizer
    steps = pre if isinstance(pre, list) else [pre] if pre is not None else []
    t.pre_tokenizer = P.Sequence(steps + [raw_bytes()])
    t.decoder = D.ByteLevel()
    return t


def byte_bpe(pre, normalizer=None, size=500, special=("<|endoftext|>", "<|im_start|>", "<|im_end|>"), prefix_space=False,
             **model):
    t = Tokenizer(models.BPE(**model))
    if normalizer is not None:
        t.normalizer = normalizer
    t.pre_tokenizer = pre
    t.decoder = D.ByteLevel()
    t.train_from_iterator(corpus(), trainers.BpeTrainer(vocab_size=size, special_tokens=list(special), show_progress=False,
                                                        initial_alphabet=P.ByteLevel.alphabet()))
    return t


BYTE_TOKENS = ["<0x%02X>" % b for b in range(256)]


def sp_bpe(pre=None, normalizer=None, decoder=None, size=620, byte_fallback=True):
    t = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=byte_fallback))
    t.normalizer = normalizer
    if pre is not None:
        t.pre_tokenizer = pre
    special = ["<unk>", "<s>", "</s>"] + (BYTE_TOKENS if byte_fallback else [])
    t.train_from_iterator(corpus(), trainers.BpeTrainer(vocab_size=size, special_tokens=special, show_progress=False,
                                                        limit_alphabet=70, max_token_length=12))
    j = __import__("json").loads(t.to_str())
    j["added_tokens"] = j["added_tokens"][:3]  # byte tokens are plain vocabulary
    t = Tokenizer.from_str(__import__("json").dumps(j))
    if decoder is not None:
        t.decoder = decoder
    t.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)])
    return t


def llama_decoder(strip=True):
    steps = [D.Replace("▁", " "), D.ByteFallback(), D.Fuse()]
    return D.Sequence(steps + ([D.Strip(" ", 1, 0)] if strip else []))


def unigram(pre, normalizer=None, byte_fallback=False, decoder=None, size=400):
    t = Tokenizer(models.Unigram())
    if normalizer is not None:
        t.normalizer = normalizer
    t.pre_tokenizer = pre
    special = ["<unk>", "<s>", "</s>"]
    t.train_from_iterator(corpus(), trainers.UnigramTrainer(vocab_size=size, special_tokens=special, unk_token="<unk>",
                                                            show_progress=False, shrinking_factor=0.5))
    vocab = __import__("json").loads(t.to_str())["model"]["vocab"]
    vocab = [(a, b) for a, b in vocab]
    if byte_fallback:
        vocab += [(b, -20.0) for b in BYTE_TOKENS]
    model = Tokenizer(models.Unigram(vocab, 0, byte_fallback))
    if normalizer is not None:
        model.normalizer = normalizer
    model.pre_tokenizer = pre
    model.add_special_tokens(special)
    model.decoder = decoder or D.Metaspace()
    model.post_processor = processors.TemplateProcessing(single="$A </s>", pair="$A $B", special_tokens=[("</s>", 2)])
    return model


def charsmap(rule):
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(corpus()), model_writer=out, vocab_size=300,
                                             normalization_rule_name=rule, hard_vocab_limit=False, minloglevel=2)
    data, at = out.getvalue(), 0

    def varint():
        nonlocal at
        v = s = 0
        while True:
            b = data[at]
            at += 1
            v |= (b & 127) << s
            s += 7
            if b < 128:
                return v

    def fields(end):
        nonlocal at
        while at < end:
            tag = varint()
            if tag & 7 == 2:
                n = varint()
                yield tag >> 3, at, at + n
                at += n
            elif tag & 7 == 0:
                varint()
            else:
                at += 4 if tag & 7 == 5 else 8

    for field, start, end in fields(len(data)):
        if field == 3:
            save = at
            at = start
            for f2, s2, e2 in fields(end):
                if f2 == 2:
                    return data[s2:e2]
            at = save
    raise SystemExit("no charsmap")


def wordpiece(lowercase):
    t = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    t.normalizer = N.BertNormalizer(lowercase=lowercase)
    t.pre_tokenizer = P.BertPreTokenizer()
    t.decoder = D.WordPiece()
    t.train_from_iterator(corpus(), trainers.WordPieceTrainer(vocab_size=500, show_progress=False, special_tokens=[
        "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]))
    t.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return t


def added_flags(normalizer):
    t = probe(normalizer, P.WhitespaceSplit())
    t.add_tokens([AddedToken("<l>", lstrip=True, normalized=False), AddedToken("<r>", rstrip=True, normalized=False),
                  AddedToken("<b>", lstrip=True, rstrip=True, normalized=False), AddedToken("word", single_word=True),
                  AddedToken("ABC", normalized=True), AddedToken("XYZ", normalized=False), AddedToken("<ab>", normalized=False),
                  AddedToken("<ab>c", normalized=False), AddedToken("the", normalized=True, lstrip=True),
                  AddedToken("é", normalized=True, single_word=True), AddedToken("ab c", normalized=True, rstrip=True)])
    t.add_special_tokens(["<|eot|>", AddedToken("<n>", normalized=True, special=True)])
    return t


def zoo():
    """name → tokenizer; built lazily."""
    sp_norm = N.Sequence([N.Prepend("▁"), N.Replace(" ", "▁")])
    z = {
        "gpt2": lambda: byte_bpe(P.ByteLevel(add_prefix_space=False)),
        "prefix": lambda: byte_bpe(P.ByteLevel(add_prefix_space=True), N.Sequence([N.NFKC(), N.Lowercase()])),
        "roberta": lambda: roberta(),
        "llama3": lambda: llama3(),
        "qwen2": lambda: byte_bpe(P.Sequence([split(QWEN2), raw_bytes()]), N.NFC()),
        "o200k": lambda: byte_bpe(P.Sequence([split(O200K), raw_bytes()])),
        "starcoder": lambda: byte_bpe(P.Sequence([P.Digits(True), P.ByteLevel(add_prefix_space=False)])),
        "falcon": lambda: byte_bpe(P.Sequence([P.Punctuation("contiguous"), P.ByteLevel(add_prefix_space=False), P.Digits(False),
                                               split("[0-9][0-9][0-9]")])),
        "deepseek": lambda: byte_bpe(P.Sequence([split(r"[\r\n]"), split(r"\s?\p{L}+"), split(r"\s?\p{P}+"),
                                                 split("[一-龥ࠀ-一가-퟿]+"), P.Digits(True), raw_bytes()])),
        "deepseek3": lambda: byte_bpe(P.Sequence([split(r"\p{N}{1,3}"), split("[一-龥぀-ゟ゠-ヿ]+"), split(DS3), raw_bytes()])),
        "llama2": lambda: sp_bpe(None, sp_norm, llama_decoder()),
        "metaspace_first": lambda: sp_bpe(P.Metaspace("▁", "first", False), None, llama_decoder()),
        "metaspace_always": lambda: sp_bpe(P.Metaspace("▁", "always", True), N.NFKC(), D.Metaspace("▁", "always")),
        "gemma": lambda: sp_bpe(P.Split(" ", "merged_with_previous"), N.Replace(" ", "▁"), llama_decoder(False)),
        "no_fallback": lambda: sp_bpe(P.Metaspace("▁", "always", True), None, D.Metaspace("▁", "always"), byte_fallback=False),
        "unigram": lambda: unigram(P.Metaspace("▁", "always"), N.Sequence([N.Nmt(), N.NFKC()])),
        "unigram_bytes": lambda: unigram(P.Metaspace("▁", "first"), None, True, D.Sequence([D.ByteFallback(), D.Metaspace("▁", "first")])),
        "t5": lambda: unigram(P.Metaspace("▁", "always"), N.Sequence([precompiled("nmt_nfkc"), N.Strip(False, True),
                                                                      N.Replace(Regex(" {2,}"), "▁")])),
        "xlm": lambda: unigram(P.Sequence([P.WhitespaceSplit(), P.Metaspace("▁", "always")]), precompiled("nmt_nfkc_cf")),
        "bert": lambda: wordpiece(True),
        "bert_cased": lambda: wordpiece(False),
        "wordlevel": lambda: wordlevel(),
        "bpe_prefix": lambda: bpe_prefix(),
        "bpe_suffix": lambda: bpe_suffix(),
        "added_lower": lambda: added_flags(N.Lowercase()),
        "added_prepend": lambda: added_flags(N.Sequence([N.Prepend("▁"), N.Replace(" ", "▁")])),
        "added_plain": lambda: added_flags(None),
    }
    return z


def precompiled(rule):
    return N.Precompiled(charsmap(rule))


def roberta():
    t = byte_bpe(P.ByteLevel(add_prefix_space=True), special=("<s>", "</s>", "<unk>"))
    t.add_special_tokens([AddedToken("<mask>", lstrip=True)])
    t.post_processor = processors.RobertaProcessing(("</s>", 1), ("<s>", 0))
    return t


def llama3():
    t = byte_bpe(P.Sequence([split(LLAMA3), raw_bytes()]), ignore_merges=True, special=("<|begin_of_text|>", "<|eot_id|>"))
    t.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=True), processors.TemplateProcessing(
        single="<|begin_of_text|> $A", pair="<|begin_of_text|> $A $B", special_tokens=[("<|begin_of_text|>", 0)])])
    return t


def wordlevel():
    t = Tokenizer(models.WordLevel(unk_token="[UNK]"))
    t.normalizer = N.Sequence([N.NFD(), N.StripAccents(), N.Lowercase()])
    t.pre_tokenizer = P.Whitespace()
    t.train_from_iterator(corpus(), trainers.WordLevelTrainer(vocab_size=400, special_tokens=["[UNK]"], show_progress=False))
    return t


def bpe_prefix():
    t = Tokenizer(models.BPE(unk_token="[UNK]", continuing_subword_prefix="##", fuse_unk=False))
    t.pre_tokenizer = P.BertPreTokenizer()
    t.train_from_iterator(corpus(), trainers.BpeTrainer(vocab_size=500, special_tokens=["[UNK]"], limit_alphabet=60,
                                                        continuing_subword_prefix="##", show_progress=False))
    t.decoder = D.WordPiece(cleanup=True)
    return t


def bpe_suffix():
    t = Tokenizer(models.BPE(unk_token="[UNK]", end_of_word_suffix="</w>", fuse_unk=True))
    t.normalizer = N.BertNormalizer(strip_accents=True)
    t.pre_tokenizer = P.BertPreTokenizer()
    t.train_from_iterator(corpus(), trainers.BpeTrainer(vocab_size=500, special_tokens=["[UNK]"], limit_alphabet=60,
                                                        end_of_word_suffix="</w>", show_progress=False))
    t.decoder = D.BPEDecoder()
    return t


# --- strings --------------------------------------------------------------------------------------------------
FIXED = [
    "", " ", "  ", "\n", "\t", "\r\n", "\u00a0", "\u3000", "a", " a", "a ", "  a  ", "Hello  world", "I'm  we'LL 'S it's", "don'T",
    "a 1234567 b12c", "x\n\n  y", "x \n \n y", "tab\t\there", "trail  ", "foo\r\n\r\nbar", "e\u0301te\u0301", "price: $12.50!!\n",
    "HTTPServer isOK fooBar", "it\u2019s", "path/to//file\n/x", "a_b", " \u00a0 x", "\u00bd\u2460x", "a\u0301\u0301 \u0301b",
    "'\u017fabc", "\u212aelvin", "\u0130stanbul", "\u01c5 \u01c6", "\u1e9e stra\u00dfe", "\ufb01 \ufb03", "\u200b\u200d\ufeff", "\u0000\u0001\u0002",
    "\ufffd\ufffe\uffff", "\U0001f468\u200d\U0001f469\u200d\U0001f467", "\U0001f1e9\U0001f1ea\U0001f1eb", "\u2764\ufe0f", "\U0001f44d\U0001f3fd",
    "\ud55c\uae00 \u1112\u1161\u11ab", "\u0928\u093f \u0915\u094d\u0937", "\u05e9\u05c1\u05b8\u05dc\u05d5\u05b9\u05dd", "\u0e40\u0e01\u0e47\u0e1a", "\u202e\u202babc\u202c",
    "\uff21\uff22\uff23 \uff11\uff12", "\u3231\u32ff\u3300", "\U00011935\U00011930", "\U0001e900\U0001e922", "\U00031350\U000323b0", "a" * 300, " " * 200, "ab" * 150, "1" * 100,
    "\u4f60" * 100, "!" * 100, "\n" * 50, " \n" * 40, "a\u0300\u0301\u0323\u0327" * 10, "<s>hello</s> <unk>", "<|endoftext|>x<|im_end|>",
    "<|im_start|>user\nhi<|im_end|>\n", "x  <l> y <r>  z <b> w", "word words word_ word. aword", "abc ABC xyz XYZ", "<ab>c<ab>cc <ab>",
    "the  the \u00e9 \u00e9t\u00e9 ab c   d", "<|begin_of_text|>a<|eot_id|>", "[MASK] [CLS]x[SEP]", "<mask> <mask>x", "<0x41><0x0A>", "\u2581\u2581a \u2581", "<n> <N>",
    "Caf\u00e9 na\u00efve r\u00e9sum\u00e9", "\u00c5\u212b\u0041\u030a", "\u1100\u1161\u11a8\u11a8", "\u0958\u0959", "\u0340\u0341\u0343\u0344\u0374", "\u037e\u0387", "\u1fef\u2000\u2126",
]
POOL = ([chr(c) for c in range(0x20, 0x7f)] * 2 + list(" \n\t\r\u00a0\u3000\u2028\u0085\u200b\u200c\u200d\u00ad\ufeff\x0b\x0c\x1c\x7f\x00\x01") +
        list("\u0301\u0300\u0323\u0327\u0308\u05b8\u064b\u093f\u094d\u20e3\ufe0f\u0345\u1ab0\u1dfd\u3099\u309a") +
        list("\u00e9\u00df\u0130\u0131\u017f\u212a\u01c5\u1e9e\u00c5\u212b\u03a3\u03c2\u00b5\u00aa\u00ba\u02b0\u2160\u2460\u00bd\u00b2\u0660\u0967\uff11\u3007\u4e8c") +
        list("\u4f60\u597d\u3042\u30a2\u30fc\uff76\ud55c\u1112\u1161\u11ab\u0e01\u0e33\u0627\u0644\u05d0\u0915\u0937\u1820\u13a0\uab70\u10d0\u1c90") +
        list("\u2019\u201c\u2026\u2014\u20ac\u00a9\u2192\u2211\u2581\u3002\uff0c\u3001\u060c\u06d4\u0964\u00bf\u00b7\u2022\ufffd\u0374\u037e") +
        list("\U0001f600\U0001f44d\U0001f3fd\U0001f468\U0001f1e9\U0001d54f\U00010400\U00020000\U00031350\U0001e900\U00011935\U00011930\U000e0041\U0010ffff"))
SNIPPETS = ["'s", "'LL", "'Re", "'\u017f", "n't", "   ", "\n\n", "\r\n", " \n ", "123", "0x1F", "foo_bar", "HTTPServer", "don't", "<s>", "</s>", "<unk>", "<|endoftext|>",
            "<|im_end|>", "<l>", "<r>", " <b> ", "word", "ABC", "abc", "XYZ", "<ab>", "<ab>c", "the ", "<|eot|>", "[MASK]", "<mask>", "<0x0A>", "\u2581", "e\u0301", "\u1100\u1161",
            "\U0001f468\u200d\U0001f469\u200d\U0001f467", "\U0001f1e9\U0001f1ea", "...", "!!!", "==>", "http://a.b/c?d=e&f", "\u4f60\u597d", "\u041f\u0440\u0438\u0432\u0435\u0442", "ab c", " do not", " 's", " ."]


def hard_strings(n, seed=1):
    rng = random.Random(seed)
    out = list(FIXED)
    words = TEXT.split()
    while len(out) < n:
        kind = rng.random()
        if kind < 0.35:
            s = "".join(rng.choice(POOL) for _ in range(rng.randint(1, 24)))
        elif kind < 0.6:
            s = "".join(rng.choice(SNIPPETS + words + [" "] * 20) for _ in range(rng.randint(1, 14)))
        elif kind < 0.75:
            s = rng.choice([" ", "", "  "]).join(rng.choice(words + WORDS) for _ in range(rng.randint(1, 20)))
        elif kind < 0.85:
            s = "".join(chr(c) for c in (rng.choice([rng.randrange(0x250), rng.randrange(0x3000), rng.randrange(0x11000), rng.randrange(0x110000)])
                                         for _ in range(rng.randint(1, 12))) if not 0xD800 <= c < 0xE000)
        elif kind < 0.95:
            s = "".join(rng.choice(POOL) * rng.randint(1, 9) for _ in range(rng.randint(1, 8)))
        else:
            line = rng.choice(TEXT.splitlines() + [" "])
            i = rng.randrange(len(line))
            s = line[i:] + rng.choice(POOL) + line[:i]
        out.append(s)
    return out[:n]

_charsmaps = {}


def precompiled_cached(rule):
    if rule not in _charsmaps:
        _charsmaps[rule] = charsmap(rule)
    return N.Precompiled(_charsmaps[rule])


def spec_cases():
    """The four small tokenizers of the format description."""
    merges = ["Ġ t", "h e", "Ġt he", "i n", "e r", "Ġ a", "Ġa n", "l l", "o n", "1 2", "Ċ Ċ", "Ã ©", "he ll"]
    vocab = {c: b for b, c in byte_chars().items()}
    for i, m in enumerate(merges):
        vocab[m.replace(" ", "")] = 256 + i
    vocab["Ġhello"] = 269
    t1 = Tokenizer(models.BPE(vocab=vocab, merges=[tuple(m.split(" ")) for m in merges], ignore_merges=True))
    t1.pre_tokenizer = P.Sequence([split(LLAMA3), raw_bytes()])
    t1.add_special_tokens(["<|bos|>", "<|eot|>"])
    t1.add_tokens([AddedToken("<tool>", normalized=True)])
    t1.post_processor = processors.TemplateProcessing(single="<|bos|> $A", pair="$A $B", special_tokens=[("<|bos|>", 270)])
    t1.decoder = D.ByteLevel()

    vocab = {t: i for i, t in enumerate(["<unk>", "<s>", "</s>"] + BYTE_TOKENS + list("▁helowrd"))}
    merges = [("h", "e"), ("l", "l"), ("he", "ll"), ("hell", "o"), ("▁", "hello"), ("▁", "w"), ("o", "r"), ("▁", "▁"), ("▁w", "or")]
    for a, b in merges:
        vocab[a + b] = len(vocab)

    def llama(normalizer, pre):
        t = Tokenizer(models.BPE(vocab=vocab, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
        if normalizer is not None:
            t.normalizer = normalizer
        if pre is not None:
            t.pre_tokenizer = pre
        t.add_special_tokens(["<unk>", "<s>", "</s>"])
        t.post_processor = processors.TemplateProcessing(single="<s> $A", pair="$A $B", special_tokens=[("<s>", 1)])
        t.decoder = llama_decoder()
        return t

    t3 = Tokenizer(models.Unigram([("<unk>", 0), ("▁", -3), ("a", -2.5), ("b", -2.75), ("c", -3.5), ("ab", -4), ("bc", -4.25),
                                   ("abc", -7.5), ("▁a", -3.25), ("▁ab", -6), ("ca", -5.5)], 0, False))
    t3.pre_tokenizer = P.Metaspace("▁", "always", True)
    t3.decoder = D.Metaspace("▁", "always", True)
    t3.add_special_tokens(["<unk>"])
    return {"spec_t1": t1, "spec_t2": llama(N.Sequence([N.Prepend("▁"), N.Replace(" ", "▁")]), None),
            "spec_t2n": llama(None, P.Metaspace("▁", "first", False)), "spec_t3": t3}


SPEC_TEXTS = ["", " ", "hello", " hello", "hello  world", "é\n", "hello</s>hello", "wor<s> hello", "</s> hello", "the hello in",
              "12345 the\n\n\nan er", "é café", "a<|eot|>the <|eot|>", "x <tool> the", "ton’s", "\u0000😀", "abc", "ab c", "a bca", "zab z", "  abab"]


def byte_chars():
    keep = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    out, n = {b: chr(b) for b in keep}, 0
    for b in range(256):
        if b not in out:
            out[b] = chr(256 + n)
            n += 1
    return out


def probes():
    """Every step on its own, over the model that shows each split."""
    z = {"regex_" + k: probe(None, split(v)) for k, v in REGEXES.items()}
    for b in ("removed", "isolated", "merged_with_previous", "merged_with_next", "contiguous"):
        z["split_" + b] = probe(None, P.Split("-", b))
        z["invert_" + b] = probe(None, P.Split(Regex(r"\w+"), b, True))
        z["punctuation_" + b] = probe(None, P.Punctuation(b))
    z.update(digits=probe(None, P.Digits(False)), digits_single=probe(None, P.Digits(True)), whitespace=probe(None, P.Whitespace()),
             whitespace_split=probe(None, P.WhitespaceSplit()), bert_pre=probe(None, P.BertPreTokenizer()), fixed=probe(None, P.FixedLength(3)),
             delimiter=probe(None, P.CharDelimiterSplit("a")), scripts=probe(None, P.UnicodeScripts()), digits_prefix=probe(None, [P.Digits(False), P.ByteLevel(True)]))
    for s in ("always", "first", "never"):
        z["metaspace_" + s] = probe(None, P.Metaspace("▁", s, True))
    for n in ("NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents", "Nmt"):
        z["normal_" + n] = probe(getattr(N, n)())
    z.update(normal_strip=probe(N.Strip()), normal_bert=probe(N.BertNormalizer()), normal_bert_off=probe(N.BertNormalizer(False, False, True, False)),
             normal_bytes=probe(N.ByteLevel()), normal_replace=probe(N.Replace(Regex(r"\s+"), "_")), normal_replace_empty=probe(N.Replace(Regex("a*"), "-")),
             first_stripped=probe(N.Strip(), P.Metaspace("▁", "first", True)))
    return z
