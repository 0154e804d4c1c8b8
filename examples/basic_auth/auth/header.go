package auth

import (
	"bytes"
	"encoding/base64"
	"strings"
	"unicode/utf8"
)

const (
	scheme = "basic "
	// maxCredential is the longest user-id, colon and password that a configuration can hold.
	maxCredential = maxUsername + 1 + maxPassword
	// MaxHeader bounds an Authorization value: base64 of the longest credential, with room for spaces.
	MaxHeader = 2048
)

// Strict, so that one credential has one encoding only.
var encoding = base64.RawStdEncoding.Strict()

// decodeHeader decodes the value of an Authorization header into dst, which must hold maxCredential bytes, and
// returns "user:password" as a part of dst. It reports false for anything that RFC 7617 doesn't allow.
func decodeHeader(dst, header []byte) (credential []byte, ok bool) {
	if len(header) <= len(scheme) || len(header) > MaxHeader || !foldEqual(header[:len(scheme)], scheme) {
		return nil, false
	}
	token := bytes.TrimLeft(header[len(scheme):], " ")
	if len(token)%4 == 0 {
		// Padding is optional for us, as it is for many clients, but where it is it must be right.
		token = bytes.TrimSuffix(bytes.TrimSuffix(token, []byte("=")), []byte("="))
	}
	// The decoder would skip line ends.
	if encoding.DecodedLen(len(token)) > maxCredential || bytes.ContainsAny(token, "\r\n") {
		return nil, false
	}
	n, err := encoding.Decode(dst, token)
	credential = dst[:n]
	if err != nil || bytes.IndexByte(credential, ':') < 1 || hasControl(credential) || !utf8.Valid(credential) {
		return nil, false
	}
	return credential, true
}

// foldEqual compares text with lower, which is in lower case, without regard to ASCII case.
func foldEqual(text []byte, lower string) bool {
	for i, c := range text {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

// challenge returns the value of WWW-Authenticate for a realm of printable ASCII.
func challenge(realm string) string {
	return `Basic realm="` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(realm) + `"`
}
