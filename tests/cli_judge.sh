#!/usr/bin/env bash
# cli_judge.sh FT SOURCE – ft judge: scores by answers and by a model's labels, the records that are made of them, and what is wrong
# with a line or the options.
. "$2/tests/support/cli.sh"
tiny=$source/data/tiny
cat > s.jsonl << 'EOF'
{"id": 7, "prompt": "What is 2 + 2?", "answer": "4", "completions": ["It is 5.", "It is 4.", "4", "five"]}
{"messages": [{"role": "user", "content": "3?"}], "answer": ["9", 3], "completions": ["so 3", "3!", "4 ==> 3"], "scores": [0]}
{"prompt": "none", "answer": "1", "completions": ["2", "3"], "big": 12345678901234567890}
EOF
same() { # NAME, with what is wanted on stdin
    cat > want.txt
    cmp -s want.txt out.txt || bad "$1: $(diff want.txt out.txt)"
}
by() { timeout 60 "$ft" judge --method match --match last_number --data s.jsonl "$@"; }

# --- forms
expect 0 by
same scores << 'EOF'
{"id":7,"prompt":"What is 2 + 2?","answer":"4","completions":["It is 5.","It is 4.","4","five"],"scores":[0,1,1,0]}
{"messages":[{"role":"user","content":"3?"}],"answer":["9",3],"completions":["so 3","3!","4 ==> 3"],"scores":[1,1,1]}
{"prompt":"none","answer":"1","completions":["2","3"],"big":12345678901234567890,"scores":[0,0]}
EOF
grep -q '3 lines, 9 completions; 9 kept, 0 dropped' err.txt || bad "counts: $(cat err.txt)"
expect 0 by --to preference
same preference << 'EOF'
{"prompt":"What is 2 + 2?","chosen":"It is 4.","rejected":"It is 5.","margin":1}
EOF
grep -q '; 1 kept, 2 dropped' err.txt || bad "counts of pairs: $(cat err.txt)"
expect 0 by --to preference --pairs all
same 'all pairs' << 'EOF'
{"prompt":"What is 2 + 2?","chosen":"It is 4.","rejected":"It is 5.","margin":1}
{"prompt":"What is 2 + 2?","chosen":"4","rejected":"It is 5.","margin":1}
{"prompt":"What is 2 + 2?","chosen":"It is 4.","rejected":"five","margin":1}
{"prompt":"What is 2 + 2?","chosen":"4","rejected":"five","margin":1}
EOF
expect 0 by --to preference --min-margin 1.5
[ -s out.txt ] && bad '--min-margin keeps a smaller one'
for seed in 1 2 3 4 5 6; do
    expect 0 by --to preference --pairs best-random --seed $seed
    sed 's/.*"rejected":"\([^"]*\)".*/\1/' out.txt >> others.txt
done
[ "$(sort -u others.txt | LC_ALL=C sort | tr '\n' ' ')" = 'It is 5. five ' ] || bad "best-random: $(cat others.txt)"
expect 0 by --to unpaired
[ "$(grep -c '"label":true}' out.txt)" = 5 ] && [ "$(wc -l < out.txt)" = 9 ] || bad "unpaired: $(cat out.txt)"
sed -n 5p out.txt | grep -qF '{"prompt":[{"role":"user","content":"3?"}],"completion":[{"role":"assistant","content":"so 3"}],"label":true}' ||
    bad "unpaired messages: $(sed -n 5p out.txt)"
expect 0 by --to completion --threshold 0.5
same completion << 'EOF'
{"prompt":"What is 2 + 2?","completion":"It is 4."}
{"prompt":[{"role":"user","content":"3?"}],"completion":[{"role":"assistant","content":"so 3"}]}
EOF
expect 0 by --to completion
[ "$(wc -l < out.txt)" = 3 ] || bad "the best of each: $(cat out.txt)"
expect 0 by --response-marker '==>'
grep -qF '"scores":[null,null,1]' out.txt || bad "marker: $(cat out.txt)"
expect 0 by --to unpaired --response-marker '==>'
same 'the whole text is kept' << 'EOF'
{"prompt":[{"role":"user","content":"3?"}],"completion":[{"role":"assistant","content":"4 ==> 3"}],"label":true}
EOF
# what it makes can be trained on
expect 0 by --to preference --out p.jsonl
[ -s out.txt ] && bad 'with --out something is printed'
expect 0 by --to unpaired --out u.jsonl
expect 0 by --to completion --out c.jsonl
expect 73 by --out p.jsonl
expect 0 by --to preference --out p.jsonl --force
for file in p u c; do expect 0 "$ft" data $file.jsonl --model "$tiny" -q; done

# --- labels of a model
printf 'Q: {prompt}\nA: {completion}{x}\nMark: ' > mark.txt
printf 'Q: {prompt}\n1: {first}\n2: {second}\nBetter: ' > pair.txt
head -n 1 s.jsonl > one.jsonl
pairs=() # CONTEXT LABEL …: what ft score says of each, a line a pair
ask() {
    for ((i = 0; i < ${#pairs[@]}; i += 2)); do
        printf '{"context": "%s", "continuation": "%s"}\n' "${pairs[i]}" "${pairs[i + 1]}"
    done > q.jsonl
    "$ft" score --model "$tiny" --data q.jsonl 2> /dev/null | sed 's/.*"logprob":\([^,]*\),.*/\1/'
}
number() { sed 's/.*"scores":\[//; s/\].*//' out.txt | cut -d, -f"$1"; }
near() { awk -v a="$1" -v b="$2" 'BEGIN { d = a - b; exit !(a != "" && d * d < 1e-10) }' || bad "$3: $1 and $2"; }
rate() { timeout 60 "$ft" judge --method rating --model "$tiny" --template mark.txt --data one.jsonl "$@"; }
for labels in 1,2,4 12,-3; do # the second of several tokens
    expect 0 rate --labels "$labels"
    pairs=()
    for l in ${labels//,/ }; do pairs+=('Q: What is 2 + 2?\nA: It is 4.{x}\nMark: ' "$l"); done
    want=$(paste -d' ' <(tr ',' '\n' <<< "$labels") <(ask) |
        awk '{ v[NR] = $1; e[NR] = exp($2); s += e[NR]; if (NR == 1 || $1 < lo) lo = $1; if (NR == 1 || $1 > hi) hi = $1 }
             END { for (i in v) m += v[i] * e[i] / s; printf "%.9f", 2 * (m - lo) / (hi - lo) - 1 }')
    near "$(number 2)" "$want" "rating by $labels"
done
compare() { timeout 60 "$ft" judge --method pairwise --model "$tiny" --template pair.txt --data one.jsonl "$@"; }
expect 0 compare
pairs=()
for other in 'It is 5.' 'It is 4.' five; do # 4 before it, and behind it
    for two in "1: 4\n2: $other" "1: $other\n2: 4"; do
        for label in 1 2; do pairs+=("Q: What is 2 + 2?\n$two\nBetter: " $label); done
    done
done
want=$(ask | awk '{ v[(NR - 1) % 4] = $1 } NR % 4 == 0 { s += (1 / (1 + exp(v[1] - v[0])) + 1 / (1 + exp(v[2] - v[3]))) / 2; n++ }
                  END { printf "%.9f", s / n }')
near "$(number 3)" "$want" pairwise
cp out.txt alone.txt
cat one.jsonl one.jsonl > two.jsonl
expect 0 "$ft" judge --method pairwise --model "$tiny" --template pair.txt --data two.jsonl --threads 1
sed -n 2p out.txt | cmp -s - alone.txt || bad 'neighbours or threads change a score'
expect 0 rate --chat
[ "$(number 1)" != null ] || bad '--chat'

# --- a reward model
cat > rm.json << EOF
{"model": {"path": "$tiny"}, "method": {"type": "full"}, "objective": {"type": "reward"},
 "data": {"train": "$source/data/preference.jsonl", "max_length": 128}, "train": {"batch_size": 4, "max_steps": 2},
 "output": {"dir": "rm"}}
EOF
expect 0 "$ft" train rm.json -q
expect 0 "$ft" judge --method reward --model rm --data s.jsonl
cp out.txt rewards.txt
cat > q.jsonl << 'EOF'
{"prompt": "What is 2 + 2?", "completion": "It is 4."}
{"prompt": [{"role": "user", "content": "3?"}], "completion": [{"role": "assistant", "content": "3!"}]}
EOF
"$ft" score --model rm --data q.jsonl 2> /dev/null | sed 's/.*"reward":\([^}]*\)}.*/\1/' > rewards
for line in 1 2; do
    sed -n ${line}p rewards.txt > out.txt
    near "$(number 2)" "$(sed -n ${line}p rewards)" "reward of line $line"
done

# --- what is wrong
wrong() { # TEXT LINE
    printf '%s\n' "$2" > w.jsonl
    expect_told 65 "w.jsonl:1:" "$ft" judge --method match --match exact --data w.jsonl --out w.out
    grep -qF -- "$1" err.txt || bad "$2: $(cat err.txt)"
    [ "$(wc -l < err.txt)" = 1 ] && [ ! -e w.out ] || bad "$2: more than a line, or a file: $(cat err.txt)"
}
wrong completions '{"prompt": "a", "answer": "b"}'
wrong 'at least one' '{"prompt": "a", "answer": "b", "completions": []}'
wrong 'must be texts' '{"prompt": "a", "answer": "b", "completions": [1]}'
wrong prompt '{"answer": "b", "completions": ["a"]}'
wrong prompt '{"prompt": 1, "answer": "b", "completions": ["a"]}'
wrong messages '{"messages": [{"role": "user"}], "answer": "b", "completions": ["a"]}'
wrong answer '{"prompt": "a", "completions": ["a"]}'
wrong answer '{"prompt": "a", "answer": [], "completions": ["a"]}'
wrong answer '{"prompt": "a", "answer": {}, "completions": ["a"]}'
wrong object '7'
printf '{"prompt": "a", "answer": "none", "completions": ["a"]}\n' > w.jsonl
expect_told 65 'w.jsonl:1:27: answer' "$ft" judge --method match --match last_number --data w.jsonl
expect_told 64 --method "$ft" judge --data s.jsonl
expect_told 64 --method "$ft" judge --method pairwize --data s.jsonl
expect_told 64 --match "$ft" judge --method match --data s.jsonl
expect_told 64 --template "$ft" judge --method rating --model "$tiny" --data s.jsonl
expect_told 64 --model by --model "$tiny"
expect_told 64 --pairs by --pairs all
expect_told 64 --min-margin by --min-margin 1
expect_told 64 --threshold by --threshold 1
expect_told 64 --labels by --labels 1,2
expect_told 64 --labels compare --labels 1,2,3
expect_told 64 --labels rate --labels 1,a
expect_told 64 --labels rate --labels 1,1.0
expect_told 64 --labels rate --labels 1,,2
expect_told 64 --labels rate --labels 2,2
told() { # CODE TEXT WORDS…
    local code=$1 text=$2
    shift 2
    expect_told "$code" "$text" "$ft" judge "$@"
}
told 65 '{first}' --method pairwise --model "$tiny" --template mark.txt --data one.jsonl
told 66 nowhere --method rating --model "$tiny" --template nowhere --data one.jsonl
told 66 nowhere --method match --match exact --data nowhere
told 66 nowhere --method rating --model nowhere --template mark.txt --data one.jsonl
told 65 "$tiny" --method reward --model "$tiny" --data one.jsonl
expect_told 73 s.jsonl by --out s.jsonl --force
finish cli_judge
