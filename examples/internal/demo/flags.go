// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"flag"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// Flags are the flags of every example. They mean the same as in kubectl, except that without
// --kubeconfig and --context an example touches no cluster of the user.
type Flags struct{ kubeconfig, context, namespace string }

// Register adds the flags to fs.
func (f *Flags) Register(fs *flag.FlagSet) {
	f.RegisterCluster(fs)
	fs.StringVar(&f.namespace, "namespace", "", "`name` of the namespace of DataPlanes (default: that of the context, or \"default\")")
}

// RegisterCluster adds those that name a cluster.
func (f *Flags) RegisterCluster(fs *flag.FlagSet) {
	fs.StringVar(&f.kubeconfig, "kubeconfig", "", "kubeconfig `file` of an existing management cluster (default: start one)")
	fs.StringVar(&f.context, "context", "", "`name` of a context in the kubeconfig (default kubeconfig: that of kubectl)")
}

// Existing reports whether the flags name an existing cluster.
func (f *Flags) Existing() bool { return f.kubeconfig != "" || f.context != "" }

// Namespace returns the namespace of the flags, or else that of the context, or else
// "default".
func (f *Flags) Namespace() string {
	if f.namespace != "" {
		return f.namespace
	}
	if f.Existing() {
		// Start reports a kubeconfig that can't be read.
		if namespace, _, err := f.clientConfig().Namespace(); err == nil {
			return namespace
		}
	}
	return metav1.NamespaceDefault
}

// Config returns the configuration that kubectl would use with the same flags.
func (f *Flags) Config() (*rest.Config, error) { return f.clientConfig().ClientConfig() }

func (f *Flags) clientConfig() clientcmd.ClientConfig {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = f.kubeconfig
	return clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: f.context})
}
