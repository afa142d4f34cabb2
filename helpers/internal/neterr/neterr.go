// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

// Package neterr recognizes the errors of connections on each operating system.
package neterr

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"
)

// Windows returns these errors of Winsock. The constants of package syscall that are named alike,
// such as ECONNREFUSED, are Go's own there: no system call returns them. Elsewhere, errors have
// smaller numbers.
const (
	wsaENETDOWN     = syscall.Errno(10050)
	wsaENETUNREACH  = syscall.Errno(10051)
	wsaENETRESET    = syscall.Errno(10052)
	wsaECONNABORTED = syscall.Errno(10053)
	wsaECONNRESET   = syscall.Errno(10054)
	wsaETIMEDOUT    = syscall.Errno(10060)
	wsaECONNREFUSED = syscall.Errno(10061)
	wsaEHOSTUNREACH = syscall.Errno(10065)
)

// IsTimeout reports whether there was no connection or no answer in time.
func IsTimeout(err error) bool {
	var network net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &network) && network.Timeout() || errors.Is(err, wsaETIMEDOUT)
}

// IsRefused reports whether a connection was refused, there is no route, or this side can't
// connect, such as without a free port or behind a local firewall. An error that IsTimeout
// recognizes may also be one of these.
func IsRefused(err error) bool {
	var call *os.SyscallError
	return isOneOf(err, syscall.ECONNREFUSED, syscall.EHOSTUNREACH, syscall.ENETUNREACH, syscall.ENETDOWN,
		wsaECONNREFUSED, wsaEHOSTUNREACH, wsaENETUNREACH, wsaENETDOWN) ||
		errors.As(err, &call) && (call.Syscall == "connect" || call.Syscall == "connectex") // the latter on Windows
}

// IsCut reports whether the other side ended a connection. net/http doesn't export the error of an
// HTTP/2 connection that ended right after the TLS handshake, so IsCut reads its text.
func IsCut(err error) bool {
	return isOneOf(err, io.EOF, io.ErrUnexpectedEOF, syscall.ECONNRESET, syscall.ENETRESET, syscall.EPIPE,
		wsaECONNRESET, wsaENETRESET, wsaECONNABORTED) ||
		strings.Contains(err.Error(), "http2: client conn could not be established")
}

func isOneOf(err error, targets ...error) bool {
	return slices.ContainsFunc(targets, func(target error) bool { return errors.Is(err, target) })
}
