// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package helpers

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
)

const (
	maxBase64 = 512 << 10

	pemBegin         = "-----BEGIN "
	blockCertificate = "CERTIFICATE"
)

// decoded is the decoded value of a field.
type decoded struct {
	field        string
	err          error // if the value isn't base64
	data         []byte
	blocks       []*pem.Block
	certificates []certificate
}

func decode(field, value string) *decoded {
	data, err := decodeField(field, value)
	d := parsePEM(field, data)
	d.err = err
	return d
}

func parsePEM(field string, data []byte) *decoded {
	d := &decoded{field: field, data: data, blocks: pemBlocks(data)}
	for _, block := range d.blocks {
		if strings.HasSuffix(block.Type, blockCertificate) {
			d.certificates = append(d.certificates, parseCertificate(field, block))
		}
	}
	return d
}

// hint returns the probable cause of unreadable PEM, to end a sentence, or "".
func (d *decoded) hint() string {
	inner, err := base64.StdEncoding.DecodeString(string(d.data))
	isBase64 := err == nil && bytes.Contains(inner, []byte(pemBegin))
	switch {
	case isBase64 && d.field == fieldClientCAValue:
		return ": the value is base64; this field takes the PEM itself"
	case isBase64:
		return ": the value is base64-encoded twice"
	case slices.ContainsFunc(d.blocks, func(block *pem.Block) bool { return block.Bytes == nil }):
		return ": BEGIN and END must each have a line of their own, without indentation or byte order mark," +
			" and the text between must be base64"
	case slices.ContainsFunc(d.blocks, isUnusual):
		return ": a certificate must be in a PEM block CERTIFICATE without headers"
	}
	return ""
}

// decodeField is as strict as OpenChoreo's controller, which accepts line breaks but
// neither spaces nor another alphabet.
func decodeField(field, value string) ([]byte, error) {
	switch {
	case value == "":
		return nil, fault(field, CredentialsReasonRequired, "must be set")
	case len(value) > maxBase64:
		return nil, fault(field, CredentialsReasonTooLarge, "must not be longer than 512 KiB of base64")
	}
	decoded, err := base64.StdEncoding.DecodeString(value)
	if err == nil {
		return decoded, nil
	}
	explanation := "is not base64"
	var offset base64.CorruptInputError
	if errors.As(err, &offset) {
		explanation += fmt.Sprintf(" at byte %d", int64(offset))
	}
	_, unpadded := base64.RawStdEncoding.DecodeString(value)
	switch {
	case strings.Contains(value, pemBegin):
		explanation += ": the value is PEM itself; base64-encode it"
	case strings.ContainsAny(value, " \t"):
		explanation += ": remove spaces and tabs"
	case strings.ContainsAny(value, "-_"):
		explanation += ": the value is in the URL-safe alphabet; use the standard one, with + and /"
	case unpadded == nil:
		explanation += ": the padding with = is missing"
	}
	return nil, fault(field, CredentialsReasonInvalidBase64, explanation)
}

// pemBlocks returns a block for each BEGIN in data, in order. A block's Bytes are nil if
// encoding/pem, and therefore crypto/tls and crypto/x509, skip it as damaged.
func pemBlocks(data []byte) []*pem.Block {
	var blocks []*pem.Block
	for {
		block, remaining := pem.Decode(data)
		if block == nil {
			return append(blocks, skippedBlocks(data)...)
		}
		read := data[:len(data)-len(remaining)]
		blocks = append(blocks, skippedBlocks(read[:bytes.LastIndex(read, []byte(pemBegin))])...)
		blocks = append(blocks, block)
		data = remaining
	}
}

// skippedBlocks finds BEGIN where a tool may have damaged a line: after space, a byte order
// mark or the END of another block. After other text, BEGIN is part of a comment.
func skippedBlocks(data []byte) []*pem.Block {
	var blocks []*pem.Block
	for line := range strings.Lines(string(data)) {
		parts := strings.Split(line, pemBegin)
		for i, part := range parts[1:] {
			before := strings.TrimSpace(strings.TrimPrefix(parts[i], "\ufeff"))
			if before == "" || strings.HasSuffix(before, "-----") {
				kind, _, _ := strings.Cut(part, "-----")
				blocks = append(blocks, &pem.Block{Type: kind})
			}
		}
	}
	return blocks
}

// isPrivateKey accepts the types that crypto/tls accepts, and ENCRYPTED PRIVATE KEY.
func isPrivateKey(block *pem.Block) bool { return strings.HasSuffix(" "+block.Type, " PRIVATE KEY") }

// isUnusual reports whether block is a certificate in a format of some OpenSSL commands: TRUSTED
// CERTIFICATE, X509 CERTIFICATE, or with headers. crypto/x509 skips these; crypto/tls accepts
// headers.
func isUnusual(block *pem.Block) bool {
	return strings.HasSuffix(block.Type, blockCertificate) && (block.Type != blockCertificate || len(block.Headers) > 0)
}

type certificate struct {
	skipped bool              // by crypto/x509 for a CA, by crypto/tls for a client
	parsed  *x509.Certificate // nil if Go can't use it
}

func parseCertificate(field string, block *pem.Block) certificate {
	if block.Bytes == nil || block.Type != blockCertificate || field != fieldCert && isUnusual(block) {
		return certificate{skipped: true}
	}
	parsed, _ := x509.ParseCertificate(block.Bytes)
	return certificate{parsed: parsed}
}

// onlyPEM returns the blocks of data that keep accepts, without headers.
func onlyPEM(data []byte, keep func(*pem.Block) bool) []byte {
	var kept []byte
	for _, block := range pemBlocks(data) {
		if block.Bytes != nil && keep(block) {
			kept = append(kept, pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: block.Bytes})...)
		}
	}
	return kept
}
