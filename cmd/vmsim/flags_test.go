package main

import (
	"slices"
	"strings"
	"testing"
)

// TestBadValues: a bad value of a right flag is one line that names the flag,
// on standard error, and 2.
func TestBadValues(t *testing.T) {
	const elf, trace = "../../testdata/elf/bss-only", "../../testdata/traces/fork-cow.trace"
	commands := [][]string{{"verify", elf}, {"stress", elf}, {"run", elf}, {"replay", trace}, {"sweep", elf}}
	const one = "verify stress run replay" // that make a run at one threshold
	for _, c := range []struct {
		only string // commands; "" for all
		args []string
		want string
	}{
		{"", []string{"--memory", "1"}, `--memory: size "1" is not between 4 MiB and 4 TiB`},
		{"", []string{"--memory", "1K"}, `--memory: size "1K" is not between 4 MiB and 4 TiB`},
		{"", []string{"--memory", "4095K"}, `--memory: size "4095K" is not between 4 MiB and 4 TiB`},
		{"", []string{"--memory", "5TiB"}, `--memory: size "5TiB" is not between 4 MiB and 4 TiB`},
		{"", []string{"--memory", "99999999999999999999"}, `--memory: size "99999999999999999999" does not fit 64 bits`},
		{"", []string{"--memory", "18446744073709551615G"}, `--memory: size "18446744073709551615G" does not fit 64 bits`},
		{"", []string{"--memory", "10Q"}, `--memory: size "10Q" is not like 4096, 64K, 512M or 4GiB`},
		{"", []string{"--memory", "-1"}, `--memory: size "-1" is not like 4096, 64K, 512M or 4GiB`},
		{"", []string{"--memory", ""}, `--memory: size "" is not like 4096, 64K, 512M or 4GiB`},
		{one, []string{"--threshold", "-1"}, `--threshold: -1 is negative`},
		{one, []string{"--threshold", "many"}, `--threshold: "many": not a whole number`},
		{one, []string{"--threshold", "99999999999999999999"}, `--threshold: "99999999999999999999": value out of range`},
		{"", []string{"--bug", "boundary"}, `--bug: unknown bug "boundary" (known: boundary-copy, index-collision)`},
		{"", []string{"--bug", "boundary-copy,index-collision"}, `--bug: unknown bug "boundary-copy,index-collision" (known: boundary-copy, index-collision)`},
		{"", []string{"--bug", ""}, `--bug: unknown bug "" (known: boundary-copy, index-collision)`},
		{"", []string{"--hardening", "castle"}, `--hardening: hardening "castle" is none of default, fortress`},
		{"verify", []string{"-o", "xml"}, `--output: format "xml" is none of table, json, jsonl, csv, markdown, junit`},
		{"verify", []string{"--color", "blue"}, `--color: "blue" is none of auto, always, never`},
		{"verify", []string{"--max-failures", "-1"}, `--max-failures: -1 is negative`},
		{"verify", []string{"--shard", "3"}, `--shard: "3" is not I/N with I from 1 to N`},
		{"verify", []string{"--shard", "0/3"}, `--shard: "0/3" is not I/N with I from 1 to N`},
		{"verify", []string{"--shard", "4/3"}, `--shard: "4/3" is not I/N with I from 1 to N`},
		{"verify", []string{"--shard", "1/"}, `--shard: "1/" is not I/N with I from 1 to N`},
		{"verify", []string{"--shard", "/"}, `--shard: "/" is not I/N with I from 1 to N`},
		{"verify", []string{"--shard", "1/3/5"}, `--shard: "1/3/5" is not I/N with I from 1 to N`},
		{"verify", []string{"--shard", "1/99999999999999999999"}, `--shard: "1/99999999999999999999" is not I/N with I from 1 to N`},
		{"verify", []string{"--part", "a", "--resume", "b"}, `--part and --resume name two files`},
		{"stress run replay", []string{"-o", "xml"}, `--output: format "xml" is none of table, json, jsonl, csv, markdown, junit`},
		{"sweep", []string{"-o", "xml"}, `--output: format "xml" is none of table, json, jsonl, csv, markdown, junit, plot, gobench`},
		{"sweep", []string{"--thresholds", "0-514"}, `--thresholds: "0-514" is not like 0,1,64-128,513, of numbers from 0 to 513`},
		{"sweep", []string{"--thresholds", "many"}, `--thresholds: "many" is not like 0,1,64-128,513, of numbers from 0 to 513`},
		{"sweep", []string{"--thresholds", "9-3"}, `--thresholds: range "9-3" runs backwards`},
		{"sweep", []string{"--policy", "always"}, `--policy: policy "always" is none of kevlar, covered, never`},
		{"sweep", []string{"--policy", "never,kevlar", "--policy", "never"}, `--policy: never is named twice`},
		{"sweep", []string{"--policy", ""}, `--policy: none is named`},
		{"sweep", []string{"--touch", "some"}, `--touch: "some" is none of all, startup, or a number of pages`},
		{"sweep", []string{"--touch", "-1"}, `--touch: "-1" is none of all, startup, or a number of pages`},
		{"sweep", []string{"--seed", "-1"}, `--seed: "-1": not a number from 0 on`},
		{"sweep", []string{"--execs", "-1"}, `--execs: -1 is negative`},
		{"sweep", []string{"--jobs", "0"}, `--jobs: 0 is less than 1`},
		{one, []string{"--events", "no/such/file"}, `no/such/file: no such file or directory`},
		{"verify", []string{"--jobs", "0"}, `--jobs: 0 is less than 1`},
		{"verify", []string{"--jobs", "-3"}, `--jobs: -3 is less than 1`},
		{"verify", []string{"--digest=maybe"}, `--digest: "maybe": not true or false`},
		{"stress", []string{"--execs", "-5"}, `--execs: -5 is negative`},
		{"stress", []string{"--touch", "-1"}, `--touch: -1 is negative`},
		{"stress", []string{"--pattern", "zigzag"}, `--pattern: pattern "zigzag" is none of random, fixed`},
		{"stress", []string{"--seed", "-1"}, `--seed: "-1": not a number from 0 on`},
		{"stress", []string{"--seed", "18446744073709551616"}, `--seed: "18446744073709551616": value out of range`},
		{"run", []string{"--execs", "0"}, `--execs: 0 is less than 1`},
		{"run", []string{"--execs", "-5"}, `--execs: -5 is less than 1`},
	} {
		ran := false
		for _, command := range commands {
			if c.only != "" && !slices.Contains(strings.Fields(c.only), command[0]) {
				continue
			}
			ran = true
			code, out, errs := vmsim(t, append(command, c.args...)...)
			if code != 2 || out != "" || errs != "vmsim: "+c.want+"\n" {
				t.Errorf("%s %q: code %d, output %q, error %q; want %q", command[0], c.args, code, out, errs, c.want)
			}
		}
		if !ran {
			t.Errorf("no command %s", c.only)
		}
	}
}

// TestHelp: the help of every command names all its flags, and fits a terminal
// but for the lists of flags.
func TestHelp(t *testing.T) {
	for _, cmd := range newRootCommand().Commands() {
		code, out, errs := vmsim(t, cmd.Name(), "--help")
		if code != 0 || errs != "" {
			t.Errorf("%s --help: code %d, error %q", cmd.Name(), code, errs)
		}
		for _, line := range strings.Split(out, "\n") {
			if strings.Contains(line, "--") {
				continue
			}
			if len(line) > 80 {
				t.Errorf("%s --help: %d columns: %s", cmd.Name(), len(line), line)
			}
		}
	}
}

// TestExamples runs every example of the help texts, from the root of the
// repository.
func TestExamples(t *testing.T) {
	t.Chdir(repository(t))
	root := newRootCommand()
	n := 0
	for _, cmd := range append(root.Commands(), root) {
		for _, line := range strings.Split(cmd.Example, "\n") {
			line, _, _ = strings.Cut(line, "#")
			args := strings.Fields(line)
			if len(args) == 0 || args[0] != "vmsim" || strings.ContainsAny(line, "<>|") || strings.Contains(line, ".part") ||
				strings.Contains(line, ".vmt") || args[1] == "record" ||
				slices.ContainsFunc([]string{"--pid", "--core", "--window"}, func(f string) bool { return strings.Contains(line, f) }) {
				continue // scripts run such, on processes of their own
			}
			n++
			code, out, errs := vmsim(t, args[1:]...)
			want := 0
			if strings.Contains(line, "--bug") && !strings.Contains(line, "fixed") {
				want = 1
			}
			if code == 2 && strings.Contains(errs, "/bin/") && strings.HasSuffix(errs, ": no such file or directory\n") {
				t.Logf("%s: %s", line, errs) // not every machine has a BusyBox
				continue
			}
			if code != want || out == "" || errs != "" {
				t.Errorf("%s: code %d, error %q, want code %d", line, code, errs, want)
			}
		}
	}
	if n < 12 {
		t.Errorf("only %d examples", n)
	}
}
