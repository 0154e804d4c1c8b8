package auth

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
	"time"
)

// bcryptBar is "bar" with the lowest cost, made with another implementation (libxcrypt).
const bcryptBar = "$2b$04$abcdefghijklmnopqrstuuEnktNu4dNa/sMz6nY.lAbxawdTTajT2"

// seal returns what Envoy hands over for a GenericSecret: field 1, a DataSource, whose given field holds text.
func seal(field byte, text string) string {
	source := binary.AppendUvarint([]byte{field<<3 | wireBytes}, uint64(len(text)))
	source = append(source, text...)
	return string(append(binary.AppendUvarint([]byte{0x0a}, uint64(len(source))), source...))
}

func users(items ...string) string { return `{"users": [` + strings.Join(items, ", ") + `]}` }

func TestParse(t *testing.T) {
	fooBar := `{"username": "foo", "password": "bar"}`
	end := time.Date(2030, 1, 31, 11, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		raw  string
		want Config
	}{
		"password": {users(fooBar), Config{Realm: "Restricted", Users: []User{{Name: "foo", Password: "bar"}}}},
		"realm": {
			`{"realm": "a \"b\"", "users": [` + fooBar + `]}`,
			Config{Realm: `a "b"`, Users: []User{{Name: "foo", Password: "bar"}}},
		},
		"hash": {
			users(`{"username": "foo", "password_hash": "` + bcryptBar + `"}`),
			Config{Realm: "Restricted", Users: []User{{Name: "foo", Hash: bcryptBar}}},
		},
		"two credentials of one user, the first of which ends": {
			users(`{"username": "foo", "password": "bar", "not_after": "2030-01-31T12:00:00+01:00"}`, fooBar),
			Config{Realm: "Restricted", Users: []User{{Name: "foo", Password: "bar", NotAfter: &end}, {Name: "foo", Password: "bar"}}},
		},
		"beyond ASCII": {
			users(`{"username": "j\u00fcrgen", "password": "пароль 🔑:"}`),
			Config{Realm: "Restricted", Users: []User{{Name: "jürgen", Password: "пароль 🔑:"}}},
		},
		"white space around": {"\n{\n" + users(fooBar)[1:] + "\n", Config{Realm: "Restricted", Users: []User{{Name: "foo", Password: "bar"}}}},
		"sealed string":      {seal(3, users(fooBar)), Config{Realm: "Restricted", Users: []User{{Name: "foo", Password: "bar"}}}},
		"sealed bytes":       {seal(2, users(fooBar)), Config{Realm: "Restricted", Users: []User{{Name: "foo", Password: "bar"}}}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Parse([]byte(c.raw))
			if err != nil {
				t.Fatal(err)
			}
			if show(got) != show(&c.want) {
				t.Errorf("got  %s\nwant %s", show(got), show(&c.want))
			}
		})
	}
}

func show(c *Config) string {
	lines := []string{c.Realm}
	for _, user := range c.Users {
		end := "never"
		if user.NotAfter != nil {
			end = user.NotAfter.UTC().String()
		}
		lines = append(lines, fmt.Sprintf("%q %q %q %s", user.Name, user.Password, user.Hash, end))
	}
	return strings.Join(lines, "; ")
}

func TestParseSealedOfEveryLength(t *testing.T) {
	// Among these are the lengths whose first bytes look like JSON or white space.
	for n := 1; n < 300; n++ {
		password := strings.Repeat("x", n)
		config, err := Parse([]byte(seal(3, users(`{"username": "foo", "password": "`+password+`"}`))))
		if err != nil || config.Users[0].Password != password {
			t.Fatalf("a password of %d bytes: %v", n, err)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	user := func(fields string) string { return users(`{"username": "foo", ` + fields + `}`) }
	hashed := func(hash string) string { return user(`"password_hash": "` + hash + `"`) }
	good := users(`{"username": "foo", "password": "s3cret"}`)
	const form = "users[0].password_hash: must be a bcrypt hash: 60 characters that begin with $2a$, $2b$ or $2y$"
	for name, c := range map[string]struct{ raw, want string }{
		"nothing":             {"", "not JSON: syntax error or trailing data at byte 0 of 0"},
		"not JSON":            {"s3cret", errEnvelope.Error()},
		"cut":                 {good[:20], "not JSON: syntax error or trailing data at byte 20 of 20"},
		"trailing data":       {good + "s3cret", "not JSON: syntax error or trailing data at byte 55 of 60"},
		"a second object":     {good + "{}", "not JSON: syntax error or trailing data at byte 55 of 56"},
		"not UTF-8":           {user(`"password": "s3cret` + "\xff" + `"`), "not JSON: the text is not valid UTF-8"},
		"a list":              {seal(3, "[1]"), "the configuration must be an object, not a list"},
		"a string":            {seal(3, `"s3cret"`), "the configuration must be an object, not a string"},
		"null":                {seal(3, "null"), "the configuration must be an object, not null"},
		"nested deeply":       {`{"users": ` + strings.Repeat("[", 20) + strings.Repeat("]", 20) + `}`, "users" + strings.Repeat("[0]", 16) + ": nested too deeply"},
		"unknown key":         {`{"user": [], "realm": "x"}`, "user: unknown key; known here: realm, users"},
		"a key in other case": {`{"Users": []}`, "Users: unknown key; known here: realm, users"},
		"a strange key":       {`{"a\nb": 1}`, `"a\nb": unknown key; known here: realm, users`},
		"a long key":          {`{"` + strings.Repeat("k", 50) + `": 1}`, `"` + strings.Repeat("k", 40) + `...": unknown key; known here: realm, users`},
		"a key twice":         {`{"realm": "a", "realm": "b"}`, "realm: the key occurs twice"},
		"a user's key twice":  {user(`"username": "s3cret"`), "users[0].username: the key occurs twice"},
		"realm: type":         {`{"realm": 1}`, "realm: must be a string, not a number"},
		"realm: empty":        {`{"realm": ""}`, "realm: must not be empty"},
		"realm: control":      {`{"realm": "a\r\nb"}`, "realm: must not contain control characters"},
		"realm: not ASCII":    {`{"realm": "é"}`, "realm: must be printable ASCII"},
		"realm: long":         {`{"realm": "` + strings.Repeat("r", 129) + `"}`, "realm: must not be longer than 128 bytes"},
		"no users":            {`{}`, "users: required"},
		"users: type":         {`{"users": {"foo": "s3cret"}}`, "users: must be a list, not an object"},
		"users: empty":        {`{"users": []}`, "users: must not be empty"},
		"user: type":          {users(`"s3cret"`), "users[0]: must be an object, not a string"},
		"user: unknown key": {
			user(`"password": "s3cret", "notafter": "2030-01-01T00:00:00Z"`),
			"users[0].notafter: unknown key; known here: username, password, password_hash, not_after",
		},
		"no username":           {users(`{"password": "s3cret"}`), "users[0].username: required"},
		"username: type":        {users(`{"username": null, "password": "s3cret"}`), "users[0].username: must be a string, not null"},
		"username: empty":       {users(`{"username": "", "password": "s3cret"}`), "users[0].username: must not be empty"},
		"username: colon":       {users(`{"username": "a:b", "password": "s3cret"}`), "users[0].username: must not contain a colon"},
		"username: control":     {users(`{"username": "a\u0000b", "password": "s3cret"}`), "users[0].username: must not contain control characters"},
		"username: long":        {users(`{"username": "` + strings.Repeat("u", 256) + `", "password": "s3cret"}`), "users[0].username: must not be longer than 255 bytes"},
		"no password":           {users(`{"username": "foo"}`), "users[0]: needs exactly one of password and password_hash"},
		"both":                  {user(`"password": "s3cret", "password_hash": "` + bcryptBar + `"`), "users[0]: needs exactly one of password and password_hash"},
		"password: type":        {user(`"password": 12345678`), "users[0].password: must be a string, not a number"},
		"password: a boolean":   {user(`"password": true`), "users[0].password: must be a string, not a boolean"},
		"password: empty":       {user(`"password": ""`), "users[0].password: must not be empty"},
		"password: control":     {user(`"password": "s3cret\n"`), "users[0].password: must not contain control characters"},
		"password: DEL":         {user(`"password": "s3cret\u007f"`), "users[0].password: must not contain control characters"},
		"password: half a pair": {user(`"password": "s3cret\ud800"`), "users[0].password: must not contain U+FFFD or an unpaired surrogate"},
		"password: long":        {user(`"password": "` + strings.Repeat("p", 1025) + `"`), "users[0].password: must not be longer than 1024 bytes"},
		"hash: a password":      {hashed("s3cret"), form},
		"hash: SHA":             {hashed("{SHA}Ys23Ag/5IOWqZCw9QGaVDdHwH00="), form},
		"hash: cut":             {hashed(bcryptBar[:59]), form},
		"hash: one more":        {hashed(bcryptBar + "x"), form},
		"hash: bad character":   {hashed(bcryptBar[:59] + "!"), form},
		"hash: $2x$":            {hashed("$2x" + bcryptBar[3:]), form},
		"hash: $3b$":            {hashed("$3b" + bcryptBar[3:]), form},
		"hash: cost not digits": {hashed("$2b$+5" + bcryptBar[6:]), form},
		"hash: no dollar":       {hashed("$2b$10." + bcryptBar[7:]), form},
		"hash: cheap":           {hashed("$2b$03" + bcryptBar[6:]), "users[0].password_hash: the bcrypt cost must be between 4 and 14, not 3"},
		"hash: dear":            {hashed("$2b$15" + bcryptBar[6:]), "users[0].password_hash: the bcrypt cost must be between 4 and 14, not 15"},
		"hash: the fifth of one user": {
			users(strings.Repeat(`{"username": "foo", "password_hash": "`+bcryptBar+`"},`, 4) + `{"username": "foo", "password_hash": "` + bcryptBar + `"}`),
			"users[4]: more than 4 credentials with password_hash for one username",
		},
		"not_after: type":           {user(`"password": "s3cret", "not_after": 2030`), "users[0].not_after: must be a string, not a number"},
		"not_after: a date":         {user(`"password": "s3cret", "not_after": "2030-01-31"`), "users[0].not_after: must be an RFC 3339 time such as 2030-01-31T12:00:00Z"},
		"not_after: no such day":    {user(`"password": "s3cret", "not_after": "2030-02-31T00:00:00Z"`), "users[0].not_after: must be an RFC 3339 time such as 2030-01-31T12:00:00Z"},
		"not_after: empty":          {user(`"password": "s3cret", "not_after": ""`), "users[0].not_after: must be an RFC 3339 time such as 2030-01-31T12:00:00Z"},
		"the second user":           {users(`{"username": "foo", "password": "s3cret"}`, `{"username": 1}`), "users[1].username: must be a string, not a number"},
		"sealed: cut":               {seal(3, good)[:30], errEnvelope.Error()},
		"sealed: one byte more":     {seal(3, good) + "x", errEnvelope.Error()},
		"sealed: length too large":  {"\x0a\x7f\x1a\x05{}", errEnvelope.Error()},
		"sealed: endless length":    {"\x0a" + strings.Repeat("\xff", 12), errEnvelope.Error()},
		"sealed: a file name":       {seal(1, "/etc/s3cret"), errEnvelope.Error()},
		"sealed: empty":             {"\x0a\x00", errEnvelope.Error()},
		"sealed: twice":             {seal(3, good) + seal(3, good), errEnvelope.Error()},
		"sealed: two inline":        {"\x0a\x08\x1a\x02{}\x12\x02{}", errEnvelope.Error()},
		"sealed: a group":           {"\x0b\x0c", errEnvelope.Error()},
		"sealed: field number zero": {"\x02\x00", errEnvelope.Error()},
		"sealed: bad JSON":          {seal(3, "s3cret"), "not JSON: syntax error or trailing data at byte 1 of 6"},
		"sealed: bad user":          {seal(3, `{"users": [{}]}`), "users[0].username: required"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse([]byte(c.raw))
			if err == nil {
				t.Fatal("accepted")
			}
			if err.Error() != c.want {
				t.Errorf("got  %s\nwant %s", err, c.want)
			}
			if strings.Contains(err.Error(), "s3cret") || strings.Contains(err.Error(), bcryptBar[7:]) {
				t.Error("the reason holds a secret")
			}
		})
	}
}

func TestUnsealSkipsOtherFields(t *testing.T) {
	// A later Envoy may add fields: a varint, a fixed64, a fixed32 and bytes before the one that we know.
	other := "\x28\x96\x01" + "\x31abcdefgh" + "\x3dabcd" + "\x42\x02hi"
	source := other + "\x1a\x02{}"
	got, err := unseal([]byte(other + "\x0a" + string(rune(len(source))) + source))
	if err != nil || string(got) != "{}" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestLive(t *testing.T) {
	config, err := Parse([]byte(users(
		`{"username": "a", "password": "x", "not_after": "2030-01-01T00:00:00Z"}`,
		`{"username": "b", "password": "x", "not_after": "2031-01-01T00:00:00Z"}`,
		// Not the zero time of Go, by which some mean "none".
		`{"username": "c", "password": "x", "not_after": "0001-01-01T00:00:00Z"}`)))
	if err != nil {
		t.Fatal(err)
	}
	for year, want := range map[int]int{2029: 2, 2030: 1, 2031: 0} {
		if got := config.Live(time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC)); got != want {
			t.Errorf("%d: %d credentials, want %d", year, got, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	good := users(`{"username": "foo", "password": "bar"}`, `{"username": "foo", "password_hash": "`+bcryptBar+`", "not_after": "2030-01-31T12:00:00Z"}`)
	for _, seed := range []string{good, seal(3, good), seal(2, good), "\n" + good, "{", "\n{\x1a", `{"realm": "x", "users": []}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		config, err := Parse(raw)
		if err != nil {
			return
		}
		if config.Realm == "" || len(config.Users) == 0 {
			t.Errorf("accepted %q as %+v", raw, config)
		}
		for _, user := range config.Users {
			if user.Name == "" || strings.ContainsAny(user.Name, ":\x00\n\x7f") || (user.Password == "") == (user.Hash == "") {
				t.Errorf("accepted %q with %+v", raw, user)
			}
		}
		// What is accepted plainly is accepted sealed, as the same.
		if looksLikeJSON(raw) {
			again, err := Parse([]byte(seal(3, string(raw))))
			if err != nil || show(again) != show(config) {
				t.Errorf("sealed: %v, %v", again, err)
			}
		}
	})
}
