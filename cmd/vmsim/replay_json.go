package main

import (
	"vmsim/internal/session"
	"vmsim/vm"
)

// replayJSON is the result in json and jsonl.
type replayJSON struct {
	Type          string          `json:"type"`
	Path          string          `json:"path"`
	Flags         string          `json:"flags,omitempty"` // of --compare
	Ops           int             `json:"ops"`
	Skipped       int             `json:"skipped"`
	Processes     int             `json:"processes"`
	ExecPassed    int             `json:"execs_passed"`
	ExecFailed    int             `json:"execs_failed"`
	Tests         int             `json:"tests"`
	TestsPassed   int             `json:"tests_passed"`
	FailedTests   []string        `json:"failed_tests"`
	Faults        vm.Faults       `json:"faults"`
	Windows       int             `json:"windows"`
	FirstAssembly *session.Moment `json:"first_assembly"`
	FirstWrong    *session.Moment `json:"first_wrong"`
	WrongLine     string          `json:"wrong_line,omitempty"`
	Crashes       int             `json:"crashes"`
	FirstCrash    string          `json:"first_crash,omitempty"`
	Refused       int             `json:"refused,omitempty"` // touches of a recording, see trace.Result
	FirstRefused  string          `json:"first_refused,omitempty"`
	Mismatches    []string        `json:"mismatches"`
	BytesCompared uint64          `json:"bytes_compared"`
	Failures      int             `json:"failures"`
	Partial       bool            `json:"partial"`

	Recording *session.Recording `json:"recording,omitempty"` // null for a trace that somebody wrote
	Compared  *replayJSON        `json:"compared,omitempty"`  // the same trace with other flags
}

func toReplayJSON(path string, r session.ReplayResult, partial bool) replayJSON {
	j := replayJSON{Type: "replay", Path: path, Ops: r.Ops, Skipped: r.Skipped, Processes: r.Processes,
		ExecPassed: r.ExecPassed, ExecFailed: r.ExecFailed, Tests: len(r.Tests), TestsPassed: r.TestsPassed(),
		FailedTests: []string{}, Mismatches: []string{}, Faults: r.Stats.Faults, Windows: r.Stats.Assembled,
		FirstAssembly: moment(r.FirstAssembly), FirstWrong: moment(r.FirstWrong), WrongLine: r.WrongLine,
		Crashes: r.Crashes, Refused: r.Refused, BytesCompared: r.Tally.BytesCompared, Failures: r.Tally.Failures, Partial: partial,
		Recording: r.Recording}
	for _, t := range r.Tests {
		if !t.Passed {
			j.FailedTests = append(j.FailedTests, t.Name)
		}
	}
	if r.FirstCrash != nil {
		j.FirstCrash = r.FirstCrash.String()
	}
	if r.FirstRefused != nil {
		j.FirstRefused = r.FirstRefused.String()
	}
	for _, m := range r.Mismatches {
		j.Mismatches = append(j.Mismatches, m.String())
	}
	return j
}
