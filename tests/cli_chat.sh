#!/usr/bin/env bash
# cli_chat.sh FT SOURCE – generate on a terminal: a conversation, its commands, Ctrl-C, editing and history, lines that are
# continued; and that a pipe is no terminal.
# shellcheck source=support/cli.sh
. "$(dirname "$0")/support/cli.sh"
tiny=$source/data/tiny pty=$(dirname "$ft")/pty
export TERM=xterm
unset LC_ALL LANG

# terminal CODE COMMAND…: the script comes on stdin; what was shown is in `shown`. Before each line that is sent the program
# gets the time to take the terminal over.
terminal() {
    local code=$1 got
    shift
    sed 's/^send /pause 60\nsend /' > script
    "$pty" script "$@" > raw 2> err
    got=$?
    tr -d '\r' < raw > shown
    [ $got -eq "$code" ] || bad "$* gave $got instead of $code: $(cat err) $(tail -c 600 shown)"
}
has() { grep -qF -- "$1" shown || bad "the terminal lacks '$1': $(tail -c 800 shown)"; }
answer_to() { # LINES: what generate says to a record
    "$ft" generate --data "$1" --model "${2:-$tiny}" --max-new-tokens 12 --json | sed 's/.*"text":\(".*"\),"tokens".*/\1/'
}
field() { sed 's/.*"'"$1"'":\([^,}]*\).*/\1/'; }

# --- a conversation -------------------------------------------------------------------------------------------------
terminal 0 "$ft" generate --model "$tiny" --max-new-tokens 12 --system 'Be brief.' << 'END'
expect > 
send Hi there\n
expect > 
send Wörter ✓ "x"\n
expect > 
send /save one.jsonl\n
expect (saved)
expect > 
send /save one.jsonl\n
expect one.jsonl: exists already
expect > 
send /save no/such/folder/x\n
expect ft: error:
expect > 
send /nonsense\n
expect /quit
expect > 
send /system Other.\n
expect > 
send /reset\n
expect > 
send /save two.jsonl\n
expect there is no answer yet
expect > 
send Again\n
expect > 
send /save two.jsonl\n
expect (saved)
expect > 
send /system\n
expect > 
send /save three.jsonl\n
expect (saved)
expect > 
send /quit\n
END
has 'a chat; /help lists'
for command in /reset '/system [TEXT]' '/save FILE' /help /quit; do has "$command"; done
# what was said and saved is what generate answers to the conversation so far
turn() { printf '{"role":"%s","content":%s}' "$1" "$2"; }
system=$(turn system '"Be brief."') hi=$(turn user '"Hi there"') more=$(turn user '"Wörter ✓ \"x\""')
echo "{\"messages\":[$system,$hi]}" > ask
first=$(turn assistant "$(answer_to ask)")
echo "{\"messages\":[$system,$hi,$first,$more]}" > ask
second=$(turn assistant "$(answer_to ask)")
[ "$(cat one.jsonl)" = "{\"messages\":[$system,$hi,$first,$more,$second]}" ] || bad "the conversation: $(cat one.jsonl)"
echo "{\"messages\":[$(turn system '"Other."'),$(turn user '"Again"')]}" > ask
third=$(turn assistant "$(answer_to ask)")
[ "$(cat two.jsonl)" = "{\"messages\":[$(turn system '"Other."'),$(turn user '"Again"'),$third]}" ] || bad "after /reset: $(cat two.jsonl)"
[ "$(cat three.jsonl)" = "{\"messages\":[$(turn user '"Again"'),$third]}" ] || bad "without /system: $(cat three.jsonl)"
[ ! -e no ] || bad "/save made a folder"
# ready to train on
echo "{\"model\": {\"path\": \"$tiny\"}, \"data\": {\"train\": \"one.jsonl\"}, \"output\": {\"dir\": \"out\"}}" > train.json
"$ft" check train.json -q > /dev/null 2> err || bad "what was saved cannot be trained on: $(cat err)"

# --- Ctrl-C, editing, history, the end of input ------------------------------------------------------------------------
terminal 0 "$ft" generate --model "$tiny" --max-new-tokens 1000000 --min-new-tokens 1000000 --stop 'qqq zzz' << 'END'
expect > 
send not this\x03
expect > 
send Hi\n
pause 300
send \x03\x03
pause 200
expect > 
send /save cut.jsonl\n
expect (saved)
expect > 
send \x04
END
grep -q '"role":"user","content":"Hi"},{"role":"assistant","content":"..*"}\]}$' cut.jsonl || bad "an answer that Ctrl-C ended: $(head -c 300 cut.jsonl)"
terminal 0 "$ft" generate --model "$tiny" --max-new-tokens 3 << 'END'
expect > 
send Hxy\x7f\x7fey äö\x7f!\x01O\n
expect > 
send \e[A\n
expect > 
send /save edited.jsonl\n
expect (saved)
expect > 
send /quit\n
END
[ "$(grep -o '"content":"OHey ä!"' edited.jsonl | wc -l)" = 2 ] || bad "editing and history: $(cat edited.jsonl)"
terminal 143 "$ft" generate --model "$tiny" << 'END'
expect > 
pause 60
signal 15
END

# --- other ways -----------------------------------------------------------------------------------------------------
# plain, by the option or where there is no template: what --prompt gives
cp -r "$tiny" bare
sed -i '/"chat_template"/d' bare/tokenizer_config.json
rm -f bare/chat_template.jinja
want=$("$ft" generate --model "$tiny" --prompt 'Once upon' --max-new-tokens 9)
for way in "$tiny --no-chat" bare; do
    # shellcheck disable=SC2086
    terminal 0 "$ft" generate --max-new-tokens 9 --model $way << 'END'
expect > 
send Once upon\n
expect > 
send /save x\n
expect /quit
expect > 
send \x04
END
    has 'each line is continued as it is'
    has "$want"
    grep -q '^/reset' shown && bad "$way: commands of a conversation"
    [ ! -e x ] || bad "$way: /save wrote something"
done
terminal 65 "$ft" generate --chat --model bare < /dev/null
has 'has no chat template'
terminal 64 "$ft" generate --no-chat --chat --model bare < /dev/null
terminal 64 "$ft" generate --no-chat --system S --model bare < /dev/null
terminal 64 "$ft" generate --num-samples 2 --model bare < /dev/null
# stdout elsewhere gets the answers alone; with --json lines of it
for option in -q --json; do
    terminal 0 sh -c "'$ft' generate --model '$tiny' --max-new-tokens 12 $option > answers" << 'END'
expect > 
send Hi\n
expect > 
send \x04
END
    [ "$option" = -q ] || [ "$(field stop < answers)" = '"length"' ] || [ "$(field stop < answers)" = '"token"' ] || bad "--json: $(cat answers)"
    [ "$option" = --json ] || [ "$(cat answers)" = "$("$ft" generate --model "$tiny" --chat --prompt Hi --max-new-tokens 12)" ] || bad "answers in a file: $(cat answers)"
done
# a terminal that knows nothing still works, and a pipe is never a chat
TERM=dumb
terminal 0 "$ft" generate --model "$tiny" --max-new-tokens 3 << 'END'
expect > 
send Hi\n
expect > 
send /quit\n
END
terminal 65 sh -c "echo Hi | '$ft' generate --model '$tiny'" < /dev/null
has 'standard input:1:'

finish cli_chat
