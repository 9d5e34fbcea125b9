// Command tokenserver is the authority of the test bed's token registry. It follows the
// distribution project's token specification: GET with Basic credentials, POST for the OAuth2 form
// (password and refresh_token grants), scopes cut down to what the user may do.
package main

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"flag"
	"log"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"
)

// registryLeeway is how long past its expiry docker-registry still accepts a token (a constant in
// its token package). A user whose tokens must really end soon gets an `exp` moved back by it.
const registryLeeway = 60 * time.Second

// user is one line of the user table.
type user struct {
	Name     string   `json:"name"`
	Password string   `json:"password"`
	Actions  []string `json:"actions"`
	// Lifetime of this user's tokens in seconds, exact at the registry; 0 means the server's own.
	Lifetime int `json:"lifetime"`
}

type server struct {
	issuer, service string
	lifetime        time.Duration
	users           []user
	key             *ecdsa.PrivateKey
	certificate     []byte
	refreshKey      [32]byte
}

type access struct {
	Type    string   `json:"type"`
	Name    string   `json:"name"`
	Actions []string `json:"actions"`
}

var scopePattern = regexp.MustCompile(`^([a-z]+(?:\([a-z]+\))?):(.+):([a-z*,]+)$`)

func main() {
	listen := flag.String("listen", "127.0.0.1:25003", "address to listen on")
	certificate := flag.String("cert", "", "PEM certificate that the registry trusts")
	key := flag.String("key", "", "PEM key of that certificate (ECDSA P-256)")
	users := flag.String("users", "", "JSON list of users")
	issuer := flag.String("issuer", "bk-sync-testbed", "issuer that the registry expects")
	service := flag.String("service", "bk-sync-testbed", "service that the registry calls itself")
	lifetime := flag.Duration("lifetime", 5*time.Minute, "lifetime of a token")
	flag.Parse()

	s := &server{issuer: *issuer, service: *service, lifetime: *lifetime}
	pair, err := tls.LoadX509KeyPair(*certificate, *key)
	if err != nil {
		log.Fatalf("certificate: %v", err)
	}
	var ok bool
	if s.key, ok = pair.PrivateKey.(*ecdsa.PrivateKey); !ok {
		log.Fatal("the key is not an ECDSA key")
	}
	s.certificate = pair.Certificate[0]
	table, err := os.ReadFile(*users)
	if err != nil {
		log.Fatalf("users: %v", err)
	}
	if err := json.Unmarshal(table, &s.users); err != nil {
		log.Fatalf("users: %v", err)
	}
	// Derived from the signing key, so that refresh tokens outlive a restart of this process.
	s.refreshKey = sha256.Sum256(append([]byte("refresh"), s.key.D.Bytes()...))
	http.HandleFunc("/token", s.token)
	log.Fatal(http.ListenAndServe(*listen, nil))
}

func (s *server) token(w http.ResponseWriter, r *http.Request) {
	var who *user
	var scopes []string
	status, refresh := 0, false
	grant := "basic"
	switch r.Method {
	case http.MethodGet:
		scopes = r.URL.Query()["scope"]
		refresh = r.URL.Query().Get("offline_token") == "true"
		name, password, given := r.BasicAuth()
		if given {
			if who = s.login(name, password); who == nil {
				status = http.StatusUnauthorized
			}
		} else {
			grant = "anonymous"
		}
	case http.MethodPost:
		if err := r.ParseForm(); err != nil {
			status = http.StatusBadRequest
			break
		}
		scopes = strings.Fields(r.PostForm.Get("scope"))
		grant = r.PostForm.Get("grant_type")
		refresh = r.PostForm.Get("access_type") == "offline"
		switch grant {
		case "password":
			who = s.login(r.PostForm.Get("username"), r.PostForm.Get("password"))
		case "refresh_token":
			who = s.refreshed(r.PostForm.Get("refresh_token"))
		default:
			status = http.StatusBadRequest
		}
		if who == nil && status == 0 {
			status = http.StatusUnauthorized
		}
	default:
		status = http.StatusMethodNotAllowed
	}
	name := "-"
	if who != nil {
		name = who.Name
	}
	if status != 0 {
		log.Printf("%s %s user=%s scope=%q status=%d", r.Method, grant, name, scopes, status)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		code := map[int]string{401: "UNAUTHORIZED", 400: "INVALID", 405: "UNSUPPORTED"}[status]
		_ = json.NewEncoder(w).Encode(map[string]any{"errors": []map[string]string{{"code": code, "message": "authentication required"}}})
		return
	}
	granted := s.granted(who, scopes)
	log.Printf("%s %s user=%s scope=%q granted=%v status=200", r.Method, grant, name, scopes, granted)
	s.answer(w, r, who, granted, refresh)
}

func (s *server) login(name, password string) *user {
	for i := range s.users {
		u := &s.users[i]
		if u.Name == name && subtle.ConstantTimeCompare([]byte(u.Password), []byte(password)) == 1 {
			return u
		}
	}
	return nil
}

// granted cuts the scopes asked for down to those the user may have. Nobody (nil) may pull `public/…`.
func (s *server) granted(who *user, scopes []string) []access {
	list := []access{}
	for _, scope := range scopes {
		for _, one := range strings.Fields(scope) {
			parts := scopePattern.FindStringSubmatch(one)
			if parts == nil {
				continue
			}
			actions := []string{}
			for _, action := range strings.Split(parts[3], ",") {
				public := strings.HasPrefix(parts[2], "public/") && action == "pull"
				if public || who != nil && slices.Contains(who.Actions, action) {
					actions = append(actions, action)
				}
			}
			if len(actions) > 0 {
				list = append(list, access{Type: parts[1], Name: parts[2], Actions: actions})
			}
		}
	}
	return list
}

func (s *server) answer(w http.ResponseWriter, r *http.Request, who *user, granted []access, refresh bool) {
	now := time.Now()
	lifetime, expires, subject := s.lifetime, now.Add(s.lifetime), ""
	if who != nil {
		subject = who.Name
		if who.Lifetime > 0 {
			lifetime = time.Duration(who.Lifetime) * time.Second
			expires = now.Add(lifetime - registryLeeway)
		}
	}
	id := make([]byte, 12)
	_, _ = rand.Read(id)
	token, err := s.sign(map[string]any{
		"iss": s.issuer, "sub": subject, "aud": s.service, "exp": expires.Unix(),
		"nbf": now.Add(-2 * registryLeeway).Unix(), "iat": now.Unix(), "jti": hex.EncodeToString(id), "access": granted,
	})
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	body := map[string]any{
		"access_token": token, "expires_in": int(lifetime.Seconds()), "issued_at": now.UTC().Format(time.RFC3339),
	}
	if r.Method == http.MethodGet {
		body["token"] = token
	} else {
		scopes := make([]string, 0, len(granted))
		for _, a := range granted {
			scopes = append(scopes, a.Type+":"+a.Name+":"+strings.Join(a.Actions, ","))
		}
		body["scope"] = strings.Join(scopes, " ")
	}
	if refresh && who != nil {
		body["refresh_token"] = who.Name + "." + s.refreshMark(who)
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(body)
}

func (s *server) refreshMark(who *user) string {
	sum := sha256.Sum256([]byte(who.Name + "\x00" + who.Password + "\x00" + string(s.refreshKey[:])))
	return hex.EncodeToString(sum[:])
}

func (s *server) refreshed(token string) *user {
	for i := range s.users {
		if u := &s.users[i]; subtle.ConstantTimeCompare([]byte(u.Name+"."+s.refreshMark(u)), []byte(token)) == 1 {
			return u
		}
	}
	return nil
}

func (s *server) sign(claims map[string]any) (string, error) {
	header, err := json.Marshal(map[string]any{
		"typ": "JWT", "alg": "ES256", "x5c": []string{base64.StdEncoding.EncodeToString(s.certificate)},
	})
	if err != nil {
		return "", err
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		return "", err
	}
	encode := base64.RawURLEncoding.EncodeToString
	signed := encode(header) + "." + encode(payload)
	sum := sha256.Sum256([]byte(signed))
	left, right, err := ecdsa.Sign(rand.Reader, s.key, sum[:])
	if err != nil {
		return "", err
	}
	signature := make([]byte, 64)
	left.FillBytes(signature[:32])
	right.FillBytes(signature[32:])
	return signed + "." + encode(signature), nil
}
