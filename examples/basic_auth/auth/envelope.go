package auth

import (
	"encoding/binary"
	"errors"
)

// Field numbers and wire types of the Protocol Buffers messages that a sealed configuration is made of.
const (
	wireVarint  = 0
	wireFixed64 = 1
	wireBytes   = 2
	wireFixed32 = 5

	genericSecretSecret    = 1
	dataSourceInlineBytes  = 2
	dataSourceInlineString = 3
)

var errEnvelope = errors.New("the configuration is neither a JSON object nor an undamaged GenericSecret " +
	"with an inline_string or inline_bytes")

// unseal returns the JSON in raw, which is either that JSON itself or the wire form of an
// envoy.extensions.transport_sockets.tls.v3.GenericSecret whose secret holds it inline. Envoy redacts the latter in
// its config dump. The two can't be confused: JSON for us begins with "{" or white space, and a GenericSecret with the
// tag of its field 1, which is a line feed; a line feed before JSON is told apart by what follows it.
func unseal(raw []byte) ([]byte, error) {
	if looksLikeJSON(raw) {
		return raw, nil
	}
	secret, err := field(raw, genericSecretSecret)
	if err != nil {
		return nil, err
	}
	return field(secret, dataSourceInlineString, dataSourceInlineBytes)
}

func looksLikeJSON(raw []byte) bool {
	for i, c := range raw {
		switch c {
		case ' ', '\t', '\r', '\n':
		case '{':
			// In an envelope, "\n{" says that 123 bytes follow, and they begin with the tag of an inline field.
			return !(i == 1 && raw[0] == '\n' && len(raw) > 2 && (raw[2] == dataSourceInlineString<<3|wireBytes ||
				raw[2] == dataSourceInlineBytes<<3|wireBytes))
		default:
			return false
		}
	}
	return len(raw) == 0
}

// field returns the contents of the only length-delimited field of message that has one of the given numbers. Fields
// of other numbers are skipped, as Protocol Buffers prescribe; a second match, or anything cut short, is damage.
func field(message []byte, numbers ...uint64) ([]byte, error) {
	var found []byte
	seen := false
	for len(message) > 0 {
		tag, n := binary.Uvarint(message)
		if n <= 0 || tag>>3 == 0 {
			return nil, errEnvelope
		}
		message = message[n:]
		size := uint64(0)
		switch tag & 7 {
		case wireVarint:
			if _, n = binary.Uvarint(message); n <= 0 {
				return nil, errEnvelope
			}
			size = uint64(n)
		case wireFixed64:
			size = 8
		case wireFixed32:
			size = 4
		case wireBytes:
			length, n := binary.Uvarint(message)
			if n <= 0 {
				return nil, errEnvelope
			}
			message = message[n:]
			size = length
		default:
			return nil, errEnvelope
		}
		if size > uint64(len(message)) {
			return nil, errEnvelope
		}
		for _, number := range numbers {
			if tag != number<<3|wireBytes {
				continue
			}
			if seen {
				return nil, errEnvelope
			}
			found, seen = message[:size], true
		}
		message = message[size:]
	}
	if !seen {
		return nil, errEnvelope
	}
	return found, nil
}
