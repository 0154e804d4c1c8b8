package auth

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"
)

// maxDepth bounds the nesting of a configuration; a valid one needs three.
const maxDepth = 16

// object is a JSON object with its keys in the order of the text.
type object struct {
	keys   []string
	values map[string]any
}

// problem is why a configuration is refused: the path of the key, and the reason. A reason never quotes a value, since
// any value may be a secret that somebody put under the wrong key.
type problem struct{ path, reason string }

func (p *problem) Error() string {
	if p.path == "" {
		return p.reason
	}
	return p.path + ": " + p.reason
}

func refuse(path, format string, args ...any) error {
	return &problem{path, fmt.Sprintf(format, args...)}
}

// decodeJSON reads text, which must hold one JSON value, into objects, []any, strings, bools, json.Numbers and nil.
// Unlike encoding/json alone it refuses duplicate keys and invalid UTF-8, and its errors quote nothing of the text.
func decodeJSON(text []byte) (any, error) {
	if !utf8.Valid(text) {
		return nil, refuse("", "not JSON: the text is not valid UTF-8")
	}
	var checked json.RawMessage
	if err := json.Unmarshal(text, &checked); err != nil {
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) {
			return nil, refuse("", "not JSON: syntax error or trailing data at byte %d of %d", syntax.Offset, len(text))
		}
		return nil, refuse("", "not JSON")
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	return decodeValue(decoder, "", 0)
}

func decodeValue(decoder *json.Decoder, path string, depth int) (any, error) {
	if depth > maxDepth {
		return nil, refuse(path, "nested too deeply")
	}
	token, err := decoder.Token()
	if err != nil {
		return nil, refuse(path, "not JSON")
	}
	delimiter, ok := token.(json.Delim)
	if !ok {
		return token, nil
	}
	if delimiter == '[' {
		list := []any{}
		for decoder.More() {
			value, err := decodeValue(decoder, fmt.Sprintf("%s[%d]", path, len(list)), depth+1)
			if err != nil {
				return nil, err
			}
			list = append(list, value)
		}
		_, err = decoder.Token()
		return list, err
	}
	members := object{values: map[string]any{}}
	for decoder.More() {
		token, err := decoder.Token()
		if err != nil {
			return nil, refuse(path, "not JSON")
		}
		key, _ := token.(string)
		inner := join(path, key)
		if _, twice := members.values[key]; twice {
			return nil, refuse(inner, "the key occurs twice")
		}
		value, err := decodeValue(decoder, inner, depth+1)
		if err != nil {
			return nil, err
		}
		members.keys = append(members.keys, key)
		members.values[key] = value
	}
	_, err = decoder.Token()
	return members, err
}

// join appends a key to a path. A key that isn't a plain word is quoted and cut, so that it can't garble a log line.
func join(path, key string) string {
	const longest = 40
	plain := key != "" && len(key) <= longest
	for _, c := range []byte(key) {
		plain = plain && (c == '_' || c == '-' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z')
	}
	if !plain {
		if len(key) > longest {
			key = key[:longest] + "..."
		}
		key = fmt.Sprintf("%+q", key)
	}
	if path == "" {
		return key
	}
	return path + "." + key
}

// kind names the JSON type of a decoded value.
func kind(value any) string {
	switch value.(type) {
	case object:
		return "an object"
	case []any:
		return "a list"
	case string:
		return "a string"
	case bool:
		return "a boolean"
	case nil:
		return "null"
	default:
		return "a number"
	}
}
