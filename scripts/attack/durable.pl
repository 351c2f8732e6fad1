#!/usr/bin/perl
# durable.pl – what is on the disk after a loss of power, told from a log of system calls.
#
#   durable.pl order LOG CWD                     the order of syncs: a line for each violation, status 1 if there is one
#   durable.pl replay LOG CWD INTO MOST SEED     the states that may be left, as folders INTO/N, INTO/N.why tells what was lost
#
# LOG is of strace -f -y -xx -s 4000000; only what lies below CWD counts.  The model is that of a file system which keeps
# nothing but what it was told to: bytes of a file are safe once it is synced, an entry of a folder (made, renamed, gone) once
# the folder is.  At every call a state may lack any of the unsynced entries and the unsynced bytes of any file, in whole
# or by half: all of them, each alone, each pair.
use strict;
use warnings;

my ($mode, $log, $cwd, $into, $most, $seed) = @ARGV;
die "usage: durable.pl order|replay LOG CWD [INTO MOST SEED]\n" unless defined $cwd && $mode =~ /^(order|replay)$/;

my (@files, %names, %durable, @pending);    # file: {data, safe}; names now, on disk; operations on entries not yet synced
my (%seen, @states, @violations, %folders);
my $at = 0;

sub text { my $s = shift; $s =~ s/\\x([0-9a-f]{2})/chr hex $1/ge; return $s }
sub below {
    my ($path) = @_;
    $path = "$cwd/$path" unless $path =~ m{^/};
    1 while $path =~ s{/\./}{/};
    1 while $path =~ s{/[^/]+/\.\.(/|$)}{$1};
    return $path =~ m{^\Q$cwd\E/(.+)$} ? $1 : undef;
}
sub folder { my $p = shift; return $p =~ m{^(.*)/[^/]*$} ? $1 : '.' }

# Renames a name, or a folder with all below it, in a table of names.
sub move {
    my ($table, $from, $to) = @_;
    for my $n (sort keys %$table) {
        if ($n eq $from) { $table->{$to} = delete $table->{$n} }
        elsif ($n =~ m{^\Q$from\E/(.*)$}) { $table->{"$to/$1"} = delete $table->{$n} }
    }
}
sub apply {
    my ($table, $op) = @_;
    my ($what, $a, $b) = @$op;
    if ($what eq 'make') { $table->{$a} = $b }
    elsif ($what eq 'gone') { delete $table->{$a} }
    elsif ($what eq 'move') { move($table, $a, $b) if exists $table->{$a} }
    elsif ($what eq 'swap') { move($table, $a, "\0"); move($table, $b, $a); move($table, "\0", $b) }
}
sub entry { # an operation on names: done now, durable later
    my @op = @_;
    apply(\%names, \@op);
    push @pending, [@op];
}
sub content { # FILE LOST(0 whole, 1 only what is safe, 2 half of what is new)
    my ($f, $lost) = @_;
    return $f->{data} if !$lost || $f->{data} eq $f->{safe};
    return $f->{safe} if $lost == 1;
    my $keep = length($f->{safe}) + int((length($f->{data}) - length($f->{safe})) / 2);
    $keep = int(length($f->{data}) / 2) if $keep < 0 || $keep > length $f->{data};
    return substr($f->{data}, 0, $keep);
}

sub state_of { # LOST ENTRIES (indices of @pending), LOST FILES (index => how), WHY
    my ($entries, $files, $why) = @_;
    my %table = %durable;
    for my $i (0 .. $#pending) { apply(\%table, $pending[$i]) unless $entries->{$i} }
    my %tree;
    for my $n (keys %table) {
        my $id = $table{$n};
        my $dir = folder($n);
        next if $dir ne '.' && !exists $table{$dir};    # its folder was never made
        $tree{$n} = $id < 0 ? undef : content($files[$id], $files->{$id} // 0);
    }
    my $key = join "\0", map { $_ . "\1" . ($tree{$_} // "\2") } sort keys %tree;
    require Digest::MD5;
    $key = Digest::MD5::md5($key);
    return if $seen{$key}++;
    push @states, [\%tree, "at call $at ($why)"];
}

sub every_state {
    my ($call) = @_;
    my @loss;
    for my $i (0 .. $#pending) { push @loss, ['e', $i, join ' ', map { $_ // '' } @{$pending[$i]}[0, 1]] }
    my %open;
    $open{$_}++ for grep { $_ >= 0 } values %names, values %durable;
    for my $id (sort { $a <=> $b } keys %open) {
        next if $files[$id]{data} eq $files[$id]{safe};
        push @loss, ['f', $id, 'bytes of ' . $files[$id]{name}, $_] for 1, 2;
    }
    my $lose = sub {
        my (%e, %f, @why);
        for my $l (@_) {
            if ($l->[0] eq 'e') { $e{$l->[1]} = 1 } else { $f{$l->[1]} = $l->[3] }
            push @why, $l->[2];
        }
        state_of(\%e, \%f, "$call; lost: " . join(', ', @why));
    };
    $lose->();
    $lose->(grep { $_->[0] eq 'e' || $_->[3] == 1 } @loss);
    for my $i (0 .. $#loss) {
        $lose->($loss[$i]);
        $lose->($loss[$_], $loss[$i]) for 0 .. $i - 1;
    }
}

sub synced_below { # FOLDER: order only: names of files in it that are not synced
    my ($dir) = @_;
    return grep { ($_ eq $dir || m{^\Q$dir\E/}) && $names{$_} >= 0 && $files[$names{$_}]{data} ne $files[$names{$_}]{safe} }
        sort keys %names;
}
sub check_rename {
    my ($from, $to) = @_;
    push @violations, "renamed before it is synced: $_ (to $to)" for synced_below($from);
    for my $op (@pending) {
        my $name = $op->[0] eq 'move' ? $op->[2] : $op->[1];
        push @violations, "renamed before its entry is synced: $name (to $to)" if $name =~ m{^\Q$from\E/};
    }
}

open(my $in, '<', $log) or die "$log: $!\n";
my %begun;
while (my $line = <$in>) {
    $line =~ s/^(\d+) +//;
    my $pid = $1 // 0;
    if ($line =~ /^(.*) <unfinished \.\.\.>$/) { $begun{$pid} = $1; next }
    if ($line =~ /^<\.\.\. \w+ resumed>(.*)$/) { $line = ($begun{$pid} // '') . $1 . "\n" }
    next unless $line =~ /^(\w+)\((.*)\)\s+= (-?\d+)(<[^>]*>)?/;
    my ($call, $args, $result, $opened) = ($1, $2, $3, $4);
    next if $result < 0;
    my @quoted = map { text($_) } $args =~ /"((?:\\x[0-9a-f]{2})*)"/g;
    my $fd_path = $args =~ /^(?:-?\d+|AT_FDCWD)<([^>]*)>/ ? below(text($1)) : undef;
    my @paths = map { below($_) } @quoted;
    my $touched = 0;
    if ($call eq 'openat' || $call eq 'creat') {
        my $name = below(text(substr($opened // '<>', 1, -1)));
        next unless defined $name && $args =~ /O_CREAT|O_TRUNC|O_WRONLY|O_RDWR/ && $args !~ /O_DIRECTORY/;
        next if $args =~ /O_TMPFILE/;
        if (!exists $names{$name}) {
            push @files, {data => '', safe => '', name => $name};
            entry('make', $name, $#files);
            $touched = 1;
        } elsif ($args =~ /O_TRUNC/) { $files[$names{$name}]{data} = ''; $touched = 1 }
    } elsif ($call =~ /^p?write(64)?$/) {
        next unless defined $fd_path && exists $names{$fd_path} && $names{$fd_path} >= 0;
        my $f = $files[$names{$fd_path}];
        my $bytes = substr($quoted[0] // '', 0, $result);
        my $where = length $f->{data};
        if ($call ne 'write' && $args =~ /, (\d+)$/) { $where = $1 }
        $f->{data} .= "\0" x ($where - length $f->{data}) if $where > length $f->{data};
        substr($f->{data}, $where, length $bytes) = $bytes;
        $touched = 1;
    } elsif ($call eq 'ftruncate') {
        next unless defined $fd_path && exists $names{$fd_path} && $args =~ /, (\d+)$/;
        my $f = $files[$names{$fd_path}];
        $f->{data} = $1 <= length $f->{data} ? substr($f->{data}, 0, $1) : $f->{data} . "\0" x ($1 - length $f->{data});
        $touched = 1;
    } elsif ($call =~ /^f(data)?sync$/) {
        my $dir = text($args =~ /<([^>]*)>/ ? $1 : '');
        if ($dir eq $cwd || (defined $fd_path && ($names{$fd_path} // -1) < 0)) {    # one that was there before is not in the table
            my $d = $dir eq $cwd ? '.' : $fd_path;
            my @left;
            for my $op (@pending) {    # a move between folders is on disk with the folder it goes to
                my $name = $op->[0] eq 'move' ? $op->[2] : $op->[1];
                if (folder($name) eq $d) { apply(\%durable, $op) } else { push @left, $op }
            }
            @pending = @left;
        } elsif (defined $fd_path) {
            $files[$names{$fd_path}]{safe} = $files[$names{$fd_path}]{data};
        }
        $touched = 1;
    } elsif ($call =~ /^rename/) {
        next unless defined $paths[0] && defined $paths[1];
        check_rename($paths[0], $paths[1]);
        entry($args =~ /RENAME_EXCHANGE/ ? 'swap' : 'move', $paths[0], $paths[1]);
        $touched = 1;
    } elsif ($call =~ /^unlink|^rmdir/) {
        next unless defined $paths[0] && exists $names{$paths[0]};
        entry('gone', $paths[0]);
        $touched = 1;
    } elsif ($call eq 'mkdir') {
        next unless defined $paths[0];
        entry('make', $paths[0], -1);
        $touched = 1;
    }
    next unless $touched;
    $at++;
    every_state("$call " . ($paths[0] // $fd_path // '.')) if $mode eq 'replay';
}

if ($mode eq 'order') {
    my %told;
    for my $op (@pending) {
        next unless $op->[0] eq 'move' || $op->[0] eq 'swap';
        push @violations, "folder not synced after a rename: $op->[2]";
    }
    print "$_\n" for grep { !$told{$_}++ } @violations;
    print "no call was seen\n" if $at == 0;
    exit(@violations || $at == 0 ? 1 : 0);
}

srand($seed);
while (@states > $most) { splice(@states, int(rand(@states)), 1) }
my $n = 0;
for my $s (@states) {
    my ($tree, $why) = @$s;
    my $dir = sprintf '%s/%05d', $into, $n++;
    mkdir $dir or die "$dir: $!\n";
    for my $name (sort keys %$tree) {
        if (!defined $tree->{$name}) { mkdir "$dir/$name" or die "$dir/$name: $!\n"; next }
        open(my $out, '>', "$dir/$name") or die "$dir/$name: $!\n";
        binmode $out;
        print $out $tree->{$name};
        close $out;
    }
    open(my $out, '>', "$dir.why") or die $!;
    print $out "$why\n";
    close $out;
}
printf "%d states of %d\n", $n, scalar keys %seen;
