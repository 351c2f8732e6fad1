#!/usr/bin/env bash
# cli_bench.sh FT SOURCE – ft bench as a program: the fields of its JSON, parts that add up, its tables.
. "$2/tests/support/cli.sh"

number() { # KEY: of the JSON line in out.txt, the first of that name
    grep -o "\"$1\":[-+.eE0-9]*" out.txt | head -n 1 | cut -d: -f2
}
holds() { awk "BEGIN { exit !($1) }" || bad "$2: $1"; }

"$ft" bench "$source/configs/lora.json" --steps 2 --seconds 0.05 --json > out.txt 2> err.txt ||
    { cat err.txt; bad "bench gave $?"; }
for key in f32_gflops memory_bandwidth_bytes_per_s memory_bandwidth_1_thread_bytes_per_s tokens_per_s \
    peak_rss_bytes planned_bytes products attention loss optimizer share_of_ceiling threads; do
    holds "$(number $key) + 0 > 0" "$key"
done
for key in core simd gemm cpu cjson zlib zstd pcre2 utf8proc libedit precision; do
    grep -q "\"$key\":\"[^\"]" out.txt || bad "no $key"
done
grep -q '"bf16_gflops":' out.txt || bad "no bf16_gflops"
step=$(grep -o '"step":{[^}]*}' out.txt)
part() { grep -o "\"$1\":[-+.eE0-9]*" <<< "$step" | cut -d: -f2; }
holds "($(part products) + $(part attention) + $(part loss) + $(part optimizer) + $(part rest)) / $(part seconds) > 0.999" "five parts"
holds "($(part products) + $(part attention) + $(part loss) + $(part optimizer) + $(part rest)) / $(part seconds) < 1.001" "five parts"
holds "$(part rest) >= 0" "the rest"
[ -z "$(find . -name 'out*' -type d)" ] || bad "a folder was made"

"$ft" bench --seconds 0.02 > out.txt 2> err.txt || bad "bench without a config gave $?"
[ -s err.txt ] && bad "bench without a config says: $(cat err.txt)"
for text in '1024 x  1024 x  1024' 'GB/s read by one thread' 'ceiling'; do
    grep -q "$text" out.txt || bad "the table lacks $text"
done
grep -q tokens/s out.txt && bad "a speed without a config"
# --- a limit of memory: what there is no room for is not measured, and nothing is killed
mkdir group && echo 33554432 > group/memory.max && echo 0 > group/memory.current
if ! grep -q ':memory:' /proc/self/cgroup || grep -q '^0::/$' /proc/self/cgroup; then
    FT_CGROUP_ROOT=$PWD/group "$ft" bench --seconds 0.02 > out.txt 2> err.txt || bad "bench in 32 MiB gave $?: $(cat err.txt)"
    grep -q 'memory *not measured' out.txt || bad "256 MB are read where 32 are granted: $(head -n 20 out.txt)"
    FT_CGROUP_ROOT=$PWD/group "$ft" bench --seconds 0.02 --json > out.txt 2> err.txt
    grep -q '"memory_bandwidth_bytes_per_s":null' out.txt || bad "a rate that was not measured: $(cat out.txt)"
fi

"$ft" bench gone.json > out.txt 2> err.txt
[ $? = 66 ] || bad "a config that is not there"
finish cli_bench
