// Package recent holds no Go: recent.h is a part of the C side, and this tests it.
package recent

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// program compiles and runs testdata/recent.c with the C compiler that Go uses, and returns its lines.
func program(t *testing.T) []string {
	t.Helper()
	cc, err := exec.Command("go", "env", "CC").Output()
	if err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(t.TempDir(), "recent")
	command := append(strings.Fields(string(cc)), "-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-O2",
		"-fsanitize=undefined", "-fsanitize-undefined-trap-on-error", "-o", binary, "testdata/recent.c")
	if out, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	out, err := exec.Command(binary).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(string(out)), "\n")
}

func TestRecent(t *testing.T) {
	lines := program(t)
	// Key 00 01 ... 0f, text 00 01 ... of the given length: made with `openssl mac -macopt size:16 SIPHASH`.
	for length, want := range map[int]string{
		0:  "a3817f04ba25a8e66df67214c7550293",
		1:  "da87c1d86b99af44347659119b22fc45",
		7:  "a1f1ebbed8dbc153c0b84aa61ff08239",
		8:  "3b62a9ba6258f5610f83e264f31497b4",
		9:  "264499060ad9baabc47f8b02bb6d71ed",
		15: "5493e99933b0a8117e08ec0f97cfc3d9",
		16: "6ee2a4ca67b054bbfd3315bf85230577",
		63: "5150d1772f50834a503e069a973fbd7c",
	} {
		if lines[length] != want {
			t.Errorf("tag of %d bytes: %s, want %s", length, lines[length], want)
		}
	}
	want := []string{
		"zeroed 0", "absent 0", "present 1", "same slot 0", "other half 0", "expired 0", "not yet expired 1",
		"displaced 0", "displacing 1",
	}
	if got := lines[64:]; strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("the cache says %q, want %q", got, want)
	}
}
