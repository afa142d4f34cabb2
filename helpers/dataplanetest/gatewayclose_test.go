// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package dataplanetest_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/util/wait"
)

// With an answer, a delete that Close ended would look done.
func TestGatewayAnswersNoRequestThatCloseEnds(t *testing.T) {
	for range 20 { // an answer is in a race with the end of the connection
		gateway, at := standIn(t)
		arrived := make(chan struct{}, 1)
		gateway.Connect("prod", http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			arrived <- struct{}{}
			<-r.Context().Done()
		}))
		result := make(chan error, 1)
		var group wait.Group
		group.Start(func() {
			_, err := try(t, at, "/version")
			result <- err
		})
		receive(t, arrived)
		gateway.Close()
		require.Error(t, receive(t, result))
		group.Wait()
	}
}
