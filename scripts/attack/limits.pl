#!/usr/bin/env perl
# limits.pl SCHEMA FOLDER < HELP – both sides of every limit of a number in a config, from what `ft schema` says, and
# `ft help eval TASK` (HELP: its lines, each behind "TASK: ").  In FOLDER a config for each value; on stdout its line:
# "CONFIG KEY VALUE taken" or "… refused".
use strict;
use warnings;
use JSON::PP;

my ($schema, $into) = @ARGV;
my %sections = (
    model => {path => 'b'}, method => {type => 'lora'}, optim => {type => 'adamw'}, objective => {type => 'sft'},
    data => {train => {path => 'd.jsonl'}, eval => {path => 'e.jsonl'}, max_length => 32}, train => {max_steps => 1}, output => {dir => 'fresh'});
my $rewards = {rewards => [{type => 'length', max_completion_len => 8, soft_punish_cache => 2}]};
my %needs = ( # required beside what is tried
    prefix_tuning => {num_virtual_tokens => 4}, p_tuning => {num_virtual_tokens => 4}, grpo => $rewards, rloo => $rewards, ppo => $rewards,
    kd => {teacher => 'b', kd_ce_alpha => 1});
my $json = JSON::PP->new->canonical;
my $count = 0;

sub slurp { open my $in, '<', $_[0] or die "$_[0]: $!\n"; local $/; <$in> }

# Above and below: the next integer; of a number the next one that a double can hold, at 0 a small one.
sub beside {
    my ($value, $way, $whole) = @_;
    return $value + $way if $whole;
    return $way * 1e-300 if $value == 0;
    my $bits = unpack 'q', pack 'd', $value;
    return sprintf '%.17g', unpack 'd', pack 'q', $bits + ($value > 0 ? $way : -$way);
}
sub twins { # TREE with "@" where the value goes, KEY, is it an integer, its limits by their names in a schema
    my ($tree, $key, $whole, %limit) = @_;
    my $text = $json->encode($tree);
    my $says = sub {
        my ($value, $verdict) = @_;
        my $file = sprintf '%s/limit-%04d.json', $into, ++$count;
        open my $out, '>', $file or die "$file: $!\n";
        print $out $text =~ s/"\@"/$value/r;
        close $out;
        print "$file $key $value $verdict\n";
    };
    for my $c (['minimum', 'taken', -1, 'refused'], ['maximum', 'taken', 1, 'refused'], ['exclusiveMinimum', 'refused', 1, 'taken'],
        ['exclusiveMaximum', 'refused', -1, 'taken']) {
        my ($name, $itself, $way, $other) = @$c;
        next unless defined $limit{$name};
        $says->($limit{$name}, $itself);
        $says->(beside($limit{$name}, $way, $whole), $other);
    }
}

my %seen;
sub walk { # PATH NODE [PATH and TYPE of the object around it that has types]
    my ($at, $node, $head, $type) = @_;
    if (my $has = $node->{properties}) {
        ($head, $type) = ($at, $has->{type}{const}) if $has->{type} && defined $has->{type}{const};
        walk($at eq '' ? $_ : "$at.$_", $has->{$_}, $head, $type) for sort keys %$has;
    }
    walk($at, $_, $head, $type) for map { @{$node->{$_} // []} } qw(oneOf anyOf);
    return unless ($node->{type} // '') =~ /^(integer|number)$/;
    my $whole = $1 eq 'integer';
    my %limit = map { $_ => $node->{$_} } grep { defined $node->{$_} } qw(minimum maximum exclusiveMinimum exclusiveMaximum);
    return if $seen{join ' ', $at, map { "$_ $limit{$_}" } sort keys %limit}++; # keys that the types of a section share
    return if $at eq "data.eval.weight"; # no weight is taken there: weights mix what is trained on
    my $tree = $json->decode($json->encode(\%sections));
    my @path = split /\./, $at;
    my $object = $tree;
    if (defined $type) {
        $object = $object->{$_} //= {} for split /\./, $head;
        $object->{type} = $type;
        $object->{$_} = $needs{$type}{$_} for keys %{$needs{$type} // {}};
        $object = $tree;
    }
    $object = $object->{$_} //= {} for @path[0 .. $#path - 1];
    $object->{$path[-1]} = '@';
    twins($tree, $at, $whole, %limit);
}
walk('', $json->decode(slurp($schema)));

while (<STDIN>) {
    my ($task, $key, $kind, $low, $high) = /^(\w+): +(\w+) +(integer|number) .*\((\S+) to (\S+)\)$/ or next;
    twins({model => {path => 'b'}, tasks => [{type => $task, data => 'e.jsonl', $key => '@'}]}, "tasks.$key", $kind eq 'integer', minimum => $low, maximum => $high);
}
