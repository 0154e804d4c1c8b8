package auth

import (
	"bytes"
	"encoding/base64"
	"strings"
	"testing"
	"unicode/utf8"
)

func basic(credential string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(credential))
}

func TestDecodeHeader(t *testing.T) {
	longest := strings.Repeat("u", maxUsername) + ":" + strings.Repeat("p", maxPassword)
	for _, c := range []struct{ name, header, want string }{
		{"plain", basic("foo:bar"), "foo:bar"},
		{"lower case", "basic Zm9vOmJhcg==", "foo:bar"},
		{"upper case", "BASIC Zm9vOmJhcg==", "foo:bar"},
		{"several spaces", "Basic    Zm9vOmJhcg==", "foo:bar"},
		{"no padding", "Basic Zm9vOmJhcg", "foo:bar"},
		{"no padding needed", basic("foo:ba"), "foo:ba"},
		{"one padding", basic("foo:barr"), "foo:barr"},
		{"colon in the password", basic("foo:b:r:"), "foo:b:r:"},
		{"empty password", basic("foo:"), "foo:"},
		{"beyond ASCII", basic("jürgen:🔑"), "jürgen:🔑"},
		{"longest", basic(longest), longest},
		{"empty", "", ""},
		{"scheme only", "Basic", ""},
		{"scheme and space", "Basic ", ""},
		{"scheme and spaces", "Basic    ", ""},
		{"no space", "BasicZm9vOmJhcg==", ""},
		{"a tab", "Basic\tZm9vOmJhcg==", ""},
		{"other scheme", "Bearer Zm9vOmJhcg==", ""},
		{"long scheme", "Basics Zm9vOmJhcg==", ""},
		{"space before", " Basic Zm9vOmJhcg==", ""},
		{"space after", "Basic Zm9vOmJhcg== ", ""},
		{"two joined", "Basic Zm9vOmJhcg==,Basic Zm9vOmJhcg==", ""},
		{"not base64", "Basic foo:bar", ""},
		{"URL alphabet", "Basic Zm9vOj8_Pz8-", ""},
		{"line end", "Basic Zm9v\nOmJhcg==", ""},
		{"padding in the middle", "Basic Zm9v=OmJhcg=", ""},
		{"half a padding", "Basic Zm9vOmJhcg=", ""},
		{"three paddings", "Basic Zm9vOmJhc===", ""},
		{"padding only", "Basic ====", ""},
		{"loose bits", "Basic Zm9vOmJhch==", ""},
		{"no colon", basic("foobar"), ""},
		{"no user", basic(":bar"), ""},
		{"control character", basic("foo:b\x00r"), ""},
		{"DEL", basic("foo:b\x7fr"), ""},
		{"not UTF-8", basic("foo:b\xe4r"), ""},
		{"header not ASCII", "Basic Zm9vOm\xe4Jhcg", ""},
		{"credential too long", basic(longest + "p"), ""},
		{"huge", "Basic " + strings.Repeat("A", 60000), ""},
		{"huge with spaces", "Basic " + strings.Repeat(" ", 60000) + "Zm9vOmJhcg==", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, ok := decodeHeader(make([]byte, maxCredential), []byte(c.header))
			if string(got) != c.want || ok != (c.want != "") {
				t.Errorf("got %q, %v", got, ok)
			}
		})
	}
}

func TestChallenge(t *testing.T) {
	for realm, want := range map[string]string{
		"Restricted": `Basic realm="Restricted"`,
		`a "b" \c`:   `Basic realm="a \"b\" \\c"`,
	} {
		if got := challenge(realm); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func FuzzDecodeHeader(f *testing.F) {
	for _, seed := range []string{basic("foo:bar"), "basic  Zm9vOmJhcg", "Basic ====", "Basic Zm9v\r\nOmJhcg==", "Bearer x", ""} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, header []byte) {
		before := bytes.Clone(header)
		credential, ok := decodeHeader(make([]byte, maxCredential), header)
		if !bytes.Equal(header, before) {
			t.Fatal("the header was written to")
		}
		if !ok {
			return
		}
		if !bytes.Contains(credential, []byte(":")) || credential[0] == ':' || !utf8.Valid(credential) || hasControl(credential) {
			t.Errorf("accepted %q from %q", credential, header)
		}
		// There is one encoding of it, up to padding, case of the scheme and spaces.
		token := strings.TrimRight(strings.TrimLeft(string(header[len(scheme):]), " "), "=")
		if token != base64.RawStdEncoding.EncodeToString(credential) {
			t.Errorf("%q from %q", credential, header)
		}
	})
}
