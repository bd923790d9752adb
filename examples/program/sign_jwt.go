// Signs the claims in its input as a JWT (HS256) with the secret JWT_KEY.
package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
)

func main() {
	key := os.Getenv("JWT_KEY")
	if key == "" {
		fmt.Fprintln(os.Stderr, "the secret JWT_KEY is missing")
		os.Exit(1)
	}
	var claims map[string]any
	if err := json.NewDecoder(os.Stdin).Decode(&claims); err != nil {
		fmt.Fprintln(os.Stderr, "the input must be a JSON object")
		os.Exit(1)
	}
	body, _ := json.Marshal(claims)
	encode := base64.RawURLEncoding.EncodeToString
	text := encode([]byte(`{"alg":"HS256","typ":"JWT"}`)) + "." + encode(body)
	signature := hmac.New(sha256.New, []byte(key))
	signature.Write([]byte(text))
	fmt.Print(text + "." + encode(signature.Sum(nil)))
}
