// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package helpers_test

import (
	"crypto/rand"
	"crypto/x509"
	"math/big"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
	"github.com/openchoreo/dataplane-sdk-go/internal/pki"
)

func TestCertificateExpiryIsTheEarliestOfTheChain(t *testing.T) {
	a, key := pki.New(), pki.ECDSAKey()
	leaf, intermediate := a.Issue("alice", key), a.Issue("alice", pki.ECDSAKey(), pki.Expired)
	dp := dataplanetest.DataPlane("default", "production-dataplane")
	creds := &dp.Spec.KubernetesCluster.Credentials
	creds.ClientCert = pki.Encode(pki.Certificates(leaf, intermediate))
	creds.ClientKey = "" // not read
	expiry, err := helpers.CertificateExpiry(dp)
	require.NoError(t, err)
	assert.Equal(t, intermediate.NotAfter, expiry)

	creds.ClientCert = "?"
	_, err = helpers.CertificateExpiry(dp)
	require.ErrorIs(t, err, helpers.ErrInvalidCredentials)
	creds.ClientCert = pki.Encode([]byte("?"))
	_, err = helpers.CertificateExpiry(dp)
	require.ErrorIs(t, err, helpers.ErrInvalidCredentials)
	_, err = helpers.CertificateExpiry(nil)
	require.EqualError(t, err, "nil data plane")
	_, err = helpers.CertificateExpiry(&v1alpha1.DataPlane{})
	require.ErrorIs(t, err, helpers.ErrNoCredentials)
}

// agentOptions returns the options with which the cluster gateway verifies an agent's certificate.
func agentOptions(clientCA []byte, at time.Time) x509.VerifyOptions {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(clientCA)
	return x509.VerifyOptions{Roots: pool, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
}

func TestCertificateExpiryOfV1IsTheLatestOfTheAuthorities(t *testing.T) {
	authority := pki.New() // valid for 23 hours
	agent := authority.Issue("agent", pki.ECDSAKey(), func(c *x509.Certificate) {
		c.NotBefore, c.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour*1000)
	})
	ca := pki.Certificates(certificate(-time.Hour, time.Hour), authority.Cert, certificate(-2*time.Hour, -time.Hour))
	expiry, err := helpers.CertificateExpiry(v1DataPlane(caValue(append(ca, pki.Block("CERTIFICATE", []byte("junk"))...))))
	require.NoError(t, err)
	_, err = agent.Verify(agentOptions(ca, expiry))
	require.NoError(t, err, "an agent is accepted until then")
	_, err = agent.Verify(agentOptions(ca, expiry.Add(time.Second)))
	require.Error(t, err, "and none after it")
}

// OpenChoreo's installer stores the agent's self-signed certificate as clientCA.
func TestPinnedAgentCertificateAcceptsOnlyItself(t *testing.T) {
	key := pki.ECDSAKey()
	selfSigned := func() *x509.Certificate {
		now := time.Now()
		template := &x509.Certificate{
			SerialNumber: big.NewInt(now.UnixNano()), NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour),
			KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, BasicConstraintsValid: true,
		}
		der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
		require.NoError(t, err)
		parsed, err := x509.ParseCertificate(der)
		require.NoError(t, err)
		return parsed
	}
	pinned, renewed := selfSigned(), selfSigned()
	ca := pki.Certificates(pinned)
	_, err := pinned.Verify(agentOptions(ca, time.Now()))
	require.NoError(t, err)
	_, err = renewed.Verify(agentOptions(ca, time.Now()))
	require.Error(t, err)

	warnings, errs := helpers.Validate(v1DataPlane(caValue(ca)))
	assert.Empty(t, errs)
	assert.Empty(t, warnings, "as stock OpenChoreo stores it")
}

func TestCertificateExpiryOfV1Errors(t *testing.T) {
	_, err := helpers.CertificateExpiry(v1DataPlane(caSecret(v1alpha1.SecretKeyReference{Name: "hunter2", Key: "ca.crt"})))
	require.ErrorIs(t, err, helpers.ErrClientCAInSecret)
	require.EqualError(t, err, "spec.clusterAgent.clientCA.secretKeyRef: the certificates are in a Secret, so the data plane doesn't show when they expire")
	require.NotErrorIs(t, err, helpers.ErrNoCredentials)

	for name, test := range map[string]struct {
		from v1alpha1.ValueFrom
		want string
	}{
		"neither": {v1alpha1.ValueFrom{}, "spec.clusterAgent.clientCA: Required: needs value or secretKeyRef; without it, the cluster gateway refuses every agent"},
		"base64": {
			v1alpha1.ValueFrom{Value: pki.Encode(pki.Certificates(pki.New().Cert)), SecretKeyRef: &v1alpha1.SecretKeyReference{}},
			"spec.clusterAgent.clientCA.value: InvalidPEM: contains no PEM block CERTIFICATE: the value is base64; this field takes the PEM itself",
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := helpers.CertificateExpiry(v1DataPlane(func(dp *v1alpha1.DataPlane) { dp.Spec.ClusterAgent.ClientCA = test.from }))
			require.EqualError(t, err, test.want)
			require.ErrorIs(t, err, helpers.ErrInvalidCredentials)
			require.NotErrorIs(t, err, helpers.ErrClientCAInSecret)
		})
	}

	_, err = helpers.CertificateExpiry(dataplanetest.DataPlane("acme", "prod", func(dp *v1alpha1.DataPlane) {
		dp.Spec.ClusterAgent = &v1alpha1.ClusterAgentConfig{}
	}))
	require.NoError(t, err, "credentials come first, as in ConfigFor")
}
