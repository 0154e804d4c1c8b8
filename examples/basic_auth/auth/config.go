package auth

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/crypto/bcrypt"
)

// Bounds of a configuration.
const (
	// MaxBcryptCost bounds what one check may cost: at 14, about a second of one core.
	MaxBcryptCost = 14
	// maxHashesPerUser bounds the work that one wrong password causes; a rotation needs two.
	maxHashesPerUser = 4
	maxRealm         = 128
	maxUsername      = 255
	maxPassword      = 1024
	// maxBcryptPassword is what bcrypt itself looks at; it ignores the rest.
	maxBcryptPassword = 72
	defaultRealm      = "Restricted"
)

// Config is a configuration that has been checked.
type Config struct {
	Realm string
	Users []User
}

// User is one credential. The same name may have several.
type User struct {
	Name string
	// Exactly one of the two is set.
	Password, Hash string
	// NotAfter is the instant from which the credential is refused; nil means never.
	NotAfter *time.Time
}

// Parse reads a configuration: JSON, plain or inside a GenericSecret. An error names the key at fault and never
// quotes a value.
func Parse(raw []byte) (*Config, error) {
	text, err := unseal(raw)
	if err != nil {
		return nil, err
	}
	value, err := decodeJSON(text)
	if err != nil {
		return nil, err
	}
	top, ok := value.(object)
	if !ok {
		return nil, refuse("", "the configuration must be an object, not %s", kind(value))
	}
	config := &Config{Realm: defaultRealm}
	if err := only(top, "", "realm", "users"); err != nil {
		return nil, err
	}
	if realm, given := top.values["realm"]; given {
		if config.Realm, err = line("realm", realm, maxRealm); err != nil {
			return nil, err
		}
		if strings.ContainsFunc(config.Realm, func(c rune) bool { return c > '~' }) {
			return nil, refuse("realm", "must be printable ASCII")
		}
	}
	users, given := top.values["users"]
	if !given {
		return nil, refuse("users", "required")
	}
	list, ok := users.([]any)
	if !ok {
		return nil, refuse("users", "must be a list, not %s", kind(users))
	}
	if len(list) == 0 {
		return nil, refuse("users", "must not be empty")
	}
	hashes := map[string]int{}
	for i, item := range list {
		path := fmt.Sprintf("users[%d]", i)
		user, err := parseUser(path, item)
		if err != nil {
			return nil, err
		}
		if user.Hash != "" {
			if hashes[user.Name]++; hashes[user.Name] > maxHashesPerUser {
				return nil, refuse(path, "more than %d credentials with password_hash for one username", maxHashesPerUser)
			}
		}
		config.Users = append(config.Users, user)
	}
	return config, nil
}

// Live counts the credentials that are valid at a time.
func (c *Config) Live(now time.Time) int {
	n := 0
	for _, user := range c.Users {
		if now.UnixMilli() < deadline(user.NotAfter) {
			n++
		}
	}
	return n
}

func parseUser(path string, item any) (user User, err error) {
	fields, ok := item.(object)
	if !ok {
		return user, refuse(path, "must be an object, not %s", kind(item))
	}
	if err = only(fields, path, "username", "password", "password_hash", "not_after"); err != nil {
		return user, err
	}
	name, given := fields.values["username"]
	if !given {
		return user, refuse(path+".username", "required")
	}
	if user.Name, err = line(path+".username", name, maxUsername); err != nil {
		return user, err
	}
	if strings.Contains(user.Name, ":") {
		return user, refuse(path+".username", "must not contain a colon")
	}
	password, hasPassword := fields.values["password"]
	hash, hasHash := fields.values["password_hash"]
	switch {
	case hasPassword == hasHash:
		return user, refuse(path, "needs exactly one of password and password_hash")
	case hasPassword:
		user.Password, err = line(path+".password", password, maxPassword)
	default:
		if user.Hash, err = line(path+".password_hash", hash, maxPassword); err == nil {
			err = checkHash(path+".password_hash", user.Hash)
		}
	}
	if err != nil {
		return user, err
	}
	if notAfter, given := fields.values["not_after"]; given {
		text, ok := notAfter.(string)
		if !ok {
			return user, refuse(path+".not_after", "must be a string, not %s", kind(notAfter))
		}
		end, err := time.Parse(time.RFC3339, text)
		if err != nil {
			return user, refuse(path+".not_after", "must be an RFC 3339 time such as 2030-01-31T12:00:00Z")
		}
		user.NotAfter = &end
	}
	return user, nil
}

// only refuses keys that aren't allowed. A typo such as notafter must not silently mean a credential without end.
func only(fields object, path string, allowed ...string) error {
	for _, key := range fields.keys {
		if !slices.Contains(allowed, key) {
			return refuse(join(path, key), "unknown key; known here: %s", strings.Join(allowed, ", "))
		}
	}
	return nil
}

// line checks that value is a non-empty string of at most limit bytes, without control characters.
func line(path string, value any, limit int) (string, error) {
	text, ok := value.(string)
	switch {
	case !ok:
		return "", refuse(path, "must be a string, not %s", kind(value))
	case text == "":
		return "", refuse(path, "must not be empty")
	case len(text) > limit:
		return "", refuse(path, "must not be longer than %d bytes", limit)
	case hasControl(text):
		return "", refuse(path, "must not contain control characters")
	case strings.ContainsRune(text, utf8.RuneError):
		// What encoding/json makes of half a surrogate pair: nobody could ever type it.
		return "", refuse(path, "must not contain U+FFFD or an unpaired surrogate")
	}
	return text, nil
}

// hasControl reports a control character, which RFC 7617 forbids in user names and passwords.
func hasControl[T string | []byte](text T) bool {
	for i := range len(text) {
		if text[i] < 0x20 || text[i] == 0x7f {
			return true
		}
	}
	return false
}

// checkHash accepts bcrypt in its modern form: $2a$, $2b$ or $2y$, a cost of two digits, $, 53 characters.
func checkHash(path, hash string) error {
	const alphabet = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
	if len(hash) != 60 || hash[:2] != "$2" || !strings.Contains("aby", hash[2:3]) || hash[3] != '$' || hash[6] != '$' ||
		strings.Trim(hash[4:6], "0123456789") != "" || strings.Trim(hash[7:], alphabet) != "" {
		return refuse(path, "must be a bcrypt hash: 60 characters that begin with $2a$, $2b$ or $2y$")
	}
	if cost := costOf(hash); cost < bcrypt.MinCost || cost > MaxBcryptCost {
		return refuse(path, "the bcrypt cost must be between %d and %d, not %d", bcrypt.MinCost, MaxBcryptCost, cost)
	}
	return nil
}

// costOf returns the cost of a hash whose form has been checked.
func costOf(hash string) int { return int(hash[4]-'0')*10 + int(hash[5]-'0') }
