// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

// Package serverurl checks and compares the URLs of API servers, gateways and observers.
package serverurl

import (
	"cmp"
	"errors"
	"net"
	"net/url"
	"strconv"
	"strings"
	"unicode"
)

const maxLength = 2 << 10

// Errors show no part of the URL, which may hold a password.
var (
	ErrMissing  = errors.New("must be set, to a URL such as https://host:6443")
	ErrTooLong  = errors.New("must not be longer than 2 KiB")
	ErrInsecure = errors.New("must use https: credentials are sent only over TLS")
)

// Parse parses an http or https URL. It refuses a fragment, which HTTP clients ignore, a query,
// which callers lose when they add a path, and a user name, which clients send as credentials.
func Parse(text string) (*url.URL, error) {
	unprintable := func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }
	switch {
	case text == "":
		return nil, ErrMissing
	case len(text) > maxLength:
		return nil, ErrTooLong
	case strings.ContainsFunc(text, unprintable):
		return nil, errors.New("must not contain spaces or control characters")
	case !hasScheme(text, "http") && !hasScheme(text, "https"):
		return nil, errors.New("must start with https://")
	}
	u, err := url.Parse(text)
	switch {
	case err != nil: // err shows the text
		return nil, errors.New("can't be parsed; want a URL such as https://host:6443")
	case u.User != nil:
		return nil, errors.New("must not contain a user name or password")
	case strings.ContainsAny(text, "?#"): // url.URL drops an empty fragment
		return nil, errors.New("must not contain a query or fragment")
	case u.Hostname() == "":
		return nil, errors.New("must name a host")
	case !isHostPort(u): // url.Parse accepts such hosts before Go 1.26
		return nil, errors.New("must name one host and port, with an IPv6 address in brackets")
	case strings.ContainsFunc(u.Host, func(r rune) bool { return r > unicode.MaxASCII }):
		// net/http and its HTTP/2 spell some such names differently, and then dial without end.
		return nil, errors.New("must have a host in ASCII; a name with other letters begins with xn--")
	case strings.ContainsAny(u.Host, `<>"`): // url.Parse accepts these characters, HTTP/2 doesn't
		return nil, errors.New(`must not contain <, > or " in its host`)
	}
	if port, err := strconv.ParseUint(cmp.Or(u.Port(), "443"), 10, 16); err != nil || port == 0 {
		return nil, errors.New("must have a port from 1 to 65535")
	}
	return u, nil
}

// isHostPort reports whether the URL names a host that can be dialed. Colons other than the
// one before the port must be in brackets.
func isHostPort(u *url.URL) bool {
	address := u.Host
	if u.Port() == "" {
		address = strings.TrimSuffix(u.Host, ":") + ":443"
	}
	_, _, err := net.SplitHostPort(address)
	return err == nil
}

func hasScheme(text, scheme string) bool {
	before, _, found := strings.Cut(text, "://")
	return found && strings.EqualFold(before, scheme)
}

// ParseHTTPS is [Parse] without http, for which the error is ErrInsecure.
func ParseHTTPS(text string) (*url.URL, error) {
	u, err := Parse(text)
	if err == nil && u.Scheme != "https" {
		return nil, ErrInsecure
	}
	return u, err
}

// ParseAPIServer is [ParseHTTPS] for client-go, which sends an escaped slash in the path as
// a slash.
func ParseAPIServer(text string) (*url.URL, error) {
	u, err := ParseHTTPS(text)
	if err == nil && strings.Contains(strings.ToUpper(u.RawPath), "%2F") {
		return nil, errors.New("must not contain an escaped slash (%2F): client-go would send it as a slash")
	}
	return u, err
}
