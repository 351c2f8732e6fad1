#!/usr/bin/env perl
# hub.pl FOLDER – a Hugging Face endpoint on the loopback, well-behaved or not.
#
# FOLDER/repo/ORG/NAME and FOLDER/repo/datasets/ORG/NAME are its repositories; *.safetensors, *.gguf and *.bin are in LFS.
# Two ports are written to FOLDER/ports, that of the hub and that of a store which redirects may lead to.  FOLDER/requests
# gets a line a request: port, path, Range, Authorization.  FOLDER/mode has a line a misbehaviour, read at each request:
#     REGEX WORD [ARGUMENT...]     the first whose regex fits "hub:/path" or "store:/path"; see `misbehave` and `content`
# A word with a count behind it (wrong*1) holds for so many requests of a path.  Ends with its parent.
use strict;
use warnings;
use Digest::SHA qw(sha1_hex sha256_hex);
use Fcntl qw(:flock);
use IO::Select;
use IO::Socket::INET;
use POSIX qw(:sys_wait_h);
use Time::HiRes qw(sleep);

my $root = shift or die "usage: hub.pl FOLDER\n";
my $commit = '0123456789abcdef0123456789abcdef01234567';
my @door = map { IO::Socket::INET->new(Listen => 64, LocalAddr => '127.0.0.1', Proto => 'tcp') or die $! } 1, 2;
my %port = (hub => $door[0]->sockport, store => $door[1]->sockport);
$SIG{CHLD} = sub { 1 while waitpid(-1, WNOHANG) > 0 };
$SIG{PIPE} = 'IGNORE';
spew("$root/ports.new", "$port{hub} $port{store}\n");
rename "$root/ports.new", "$root/ports";

my $parent = getppid;
my $select = IO::Select->new(@door);
while (getppid == $parent) {
    for my $d ($select->can_read(0.5)) {
        my $c = $d->accept or next;
        my $pid = fork;
        if (defined $pid && $pid == 0) {
            $SIG{CHLD} = 'DEFAULT';
            serve($c, $d == $door[0] ? 'hub' : 'store');
            POSIX::_exit(0);
        }
        close $c;
    }
}

sub spew { my ($f, $t) = @_; open my $h, '>', $f or die "$f: $!"; print $h $t; close $h }
sub slurp { my ($f) = @_; open my $h, '<:raw', $f or return; local $/; my $t = <$h>; close $h; return $t // '' }

# How often this was asked before.
sub times_before {
    my ($what) = @_;
    my $f = "$root/count-" . sha1_hex($what);
    open my $h, '+>>', $f or die $!;
    flock $h, LOCK_EX;
    seek $h, 0, 0;
    my $n = <$h> // 0;
    truncate $h, 0;
    print $h $n + 1;
    close $h;
    return $n;
}

sub mode_of {
    my ($where) = @_;
    for (split /\n/, slurp("$root/mode") // '') {
        my ($regex, $word, @args) = split ' ';
        next unless defined $word && $where =~ /$regex/;
        if ($word =~ s/\*(\d+)$//) { next if times_before("$regex $word @args $where") >= $1 }
        return ($word, @args);
    }
    return '';
}

sub serve {
    my ($c, $name) = @_;
    my ($line, %h) = scalar <$c>;
    return unless defined $line && $line =~ m{^GET (\S+) HTTP/1};
    my $url = $1;
    while (defined(my $l = <$c>)) { last if $l =~ /^\r?\n/; $h{lc $1} = $2 if $l =~ /^([^:]+):\s*(.*?)\r?\n/ }
    open my $log, '>>', "$root/requests";
    syswrite $log, sprintf "%s:%s range=%s token=%s\n", $name, $url, $h{range} // '', $h{authorization} // '';
    close $log;
    (my $path = $url) =~ s/%([0-9A-Fa-f]{2})/chr hex $1/ge;
    my ($word, @args) = mode_of("$name:$path");
    misbehave($c, $name, $url, $word, @args) and return;
    if ($h{authorization} && $name eq 'store') { answer($c, '400 Bad', {}, 'no token here'); return }
    return revision($c, $1, $2, $word) if $path =~ m{^/api/(models|datasets)/([^/]+/[^/]+)/revision/main\?};
    return tree($c, $1, $2, $url) if $path =~ m{^/api/(models|datasets)/([^/]+/[^/]+)/tree/$commit\?};
    return content($c, $name, ($1 // '') . $2, $3, $h{range}, $word, @args) if $path =~ m{^/(datasets/)?([^/]+/[^/]+)/resolve/$commit/(.*)$};
    answer($c, '404 Not Found', {'X-Error-Code' => 'EntryNotFound'}, '');
}

sub answer {
    my ($c, $status, $headers, $body, $length) = @_;
    my $text = "HTTP/1.1 $status\r\n" . join('', map { "$_: $headers->{$_}\r\n" } sort keys %$headers);
    $text .= 'Content-Length: ' . ($length // length $body) . "\r\n" unless defined $length && $length < 0;
    syswrite $c, "$text" . "Connection: close\r\n\r\n";
    my $at = 0;
    while ($at < length $body) { my $n = syswrite $c, $body, 65536, $at; return unless $n; $at += $n }
}

sub misbehave {
    my ($c, $name, $url, $word, @args) = @_;
    if ($word eq 'status') { # CODE [HEADER VALUE]...
        my ($code, %more) = @args;
        s/_/ /g for values %more;
        answer($c, "$code So", \%more, 'x' x 100);
    } elsif ($word eq 'to') { # URL
        answer($c, '302 Found', {Location => $args[0]}, '');
    } elsif ($word eq 'silent') { # SECONDS
        sleep $args[0];
    } elsif ($word eq 'drip') { # a header that does not end
        syswrite $c, "HTTP/1.1 200 OK\r\n" or return 1;
        for (1 .. 10000) { syswrite $c, 'X-' . ('a' x 1000) . ": b\r\n" or return 1 }
    } elsif ($word eq 'line') { # a line of a header that does not end
        syswrite $c, "HTTP/1.1 200 OK\r\nX-A: " or return 1;
        for (1 .. 2000) { syswrite $c, 'a' x 1000 or return 1 }
    } elsif ($word eq 'round') { # a page that is followed by itself
        answer($c, '200 OK', {Link => "<$url>; rel=\"next\""}, '[]');
    } elsif ($word eq 'text') { # FILE
        answer($c, '200 OK', {}, slurp("$root/$args[0]"));
    } elsif ($word eq 'raw') { # FILE
        syswrite $c, slurp("$root/$args[0]");
    } else {
        return 0;
    }
    return 1;
}

sub quote { my ($s) = @_; $s =~ s/(["\\])/\\$1/g; $s =~ s/([\x00-\x1f])/sprintf '\\u%04x', ord $1/ge; return "\"$s\"" }

sub files_of {
    my ($dir) = @_;
    my @all = ('');
    my @files;
    while (defined(my $d = shift @all)) {
        opendir my $h, "$dir/$d" or next;
        for my $e (sort grep { !/^\.\.?$/ } readdir $h) {
            my $p = $d eq '' ? $e : "$d/$e";
            if (-d "$dir/$p") { push @all, $p } else { push @files, $p }
        }
    }
    return sort @files;
}

sub blob { my ($t) = @_; return sha1_hex('blob ' . length($t) . "\0" . $t) }
sub in_lfs { return $_[0] =~ /\.(safetensors|gguf|bin)$/ }

sub repo_dir { my ($kind, $id) = @_; return "$root/repo/" . ($kind eq 'datasets' ? 'datasets/' : '') . $id }

sub facts { # of a file, as members of its object
    my ($dir, $p, $blob, $hash) = @_;
    my $t = slurp("$dir/$p");
    return sprintf '"size": %d, "%s": "%s"', length $t, $blob, blob($t) unless in_lfs($p);
    return sprintf '"size": %d, "%s": "%s", "lfs": {"%s": "%s", "size": %d, "pointerSize": 134}', length $t, $blob, 'f' x 40, $hash, sha256_hex($t), length $t;
}

sub revision {
    my ($c, $kind, $id, $word) = @_;
    my $dir = repo_dir($kind, $id);
    -d $dir or return answer($c, '401 Unauthorized', {'X-Error-Code' => 'RepoNotFound'}, '');
    my @list = map { '{"rfilename": ' . quote($_) . ($word eq 'names' ? '' : ', ' . facts($dir, $_, 'blobId', 'sha256')) . '}' } files_of($dir);
    @list = () if $word eq 'tree';
    push @list, '{"rfilename": ' . slurp("$root/evil") . ', "size": 1, "blobId": "' . ('0' x 40) . '"}' if $word eq 'evil';
    answer($c, '200 OK', {'Content-Type' => 'application/json'},
        "{\"id\": \"$id\", \"sha\": \"$commit\", \"usedStorage\": 18446744073709551615, \"siblings\": [" . join(', ', @list) . ']}');
}

sub tree { # two a page
    my ($c, $kind, $id, $url) = @_;
    my $dir = repo_dir($kind, $id);
    my $from = $url =~ /cursor=(\d+)/ ? $1 : 0;
    my @files = files_of($dir);
    my $last = $from + 1 < $#files ? $from + 1 : $#files;
    my @list = map { '{"type": "file", "path": ' . quote($_) . ', ' . facts($dir, $_, 'oid', 'oid') . '}' } @files[$from .. $last];
    push @list, '{"type": "directory", "path": "onnx", "size": 0, "oid": "' . ('1' x 40) . '"}';
    my %more;
    (my $base = $url) =~ s/&cursor=.*//;
    $more{Link} = "<http://127.0.0.1:$port{hub}$base&cursor=0>; rel=\"prev\", <$base&cursor=" . ($last + 1) . '>; rel="next"' if $last < $#files;
    answer($c, '200 OK', \%more, '[' . join(', ', @list) . ']');
}

sub content {
    my ($c, $name, $id, $p, $range, $word, @args) = @_;
    my $file = "$root/repo/$id/$p";
    my $t = -f $file ? slurp($file) : undef;
    defined $t or return answer($c, '404 Not Found', {'X-Error-Code' => 'EntryNotFound'}, '');
    my %more = $name eq 'hub' && $word ne 'bare' ? ('X-Linked-Size' => length $t, 'X-Linked-Etag' => '"' . (in_lfs($p) ? sha256_hex($t) : blob($t)) . '"') : ();
    $more{'X-Linked-Etag'} = uc $more{'X-Linked-Etag'} if $word eq 'shout';
    if ($word eq 'store') { # the hub's way with LFS
        return answer($c, '302 Found', {%more, Location => "http://127.0.0.1:$port{store}/$id/resolve/$commit/$p"}, '');
    }
    my $whole = length $t;
    substr($t, $whole / 2, 1) ^= "\x01" if $word eq 'wrong' && $whole;
    my $status = '200 OK';
    if (defined $range && $range =~ /^bytes=(\d+)-$/ && $word !~ /^(norange|short|shorter|long)$/) {
        return answer($c, '416 Range', {'Content-Range' => "bytes */$whole"}, '') if $1 >= $whole;
        my $from = $word eq 'elsewhere' ? $1 - 1 : $1;
        $status = '206 Partial Content';
        $more{'Content-Range'} = "bytes $from-" . ($whole - 1) . "/$whole";
        $t = substr $t, $from;
    }
    my $n = length $t;
    if ($word eq 'short') { # its length is that of all of it
        answer($c, $status, \%more, substr($t, 0, $n / 2), $n);
    } elsif ($word eq 'shorter') { # and here of what comes
        answer($c, $status, \%more, substr($t, 0, $n / 2));
    } elsif ($word eq 'long') {
        answer($c, $status, \%more, $t . 'more');
    } elsif ($word eq 'endless') {
        answer($c, $status, \%more, $t . ('x' x (4 << 20)), -1);
    } elsif ($word eq 'cut') { # after so many bytes
        answer($c, $status, \%more, substr($t, 0, $args[0]), $n);
    } elsif ($word eq 'stop') { # the same, and the line stays open
        answer($c, $status, \%more, substr($t, 0, $args[0]), $n);
        sleep $args[1];
    } elsif ($word eq 'slow') { # BYTES SECONDS
        answer($c, $status, \%more, '', $n);
        for (my $at = 0; $at < $n; $at += $args[0]) { syswrite($c, substr $t, $at, $args[0]) or return; sleep $args[1] }
    } else {
        answer($c, $status, \%more, $t);
    }
}
