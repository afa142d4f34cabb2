// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"errors"

	"k8s.io/apimachinery/pkg/types"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
)

// change is the difference between two connections.
type change struct{ credentials, server bool }

// witness decides whether a change of a DataPlane changes its credentials or its API server, while
// no run has a Cluster or before a run's Cluster is updated. It needs a Cluster, which sends
// nothing: only ConfigFor knows which fields matter, and only a Cluster can compare its results.
type witness struct {
	options remote.Options
	cluster *remote.Cluster // nil while none can be made
	server  string          // the run's Cluster and API server; empty if it had no Cluster
	rotated bool
	failed  bool // the DataPlane that was compared last can't be used
}

func newWitness(options remote.Options) *witness {
	w := &witness{options: options}
	w.options.OnRotate = func(types.NamespacedName) { w.rotated = true }
	return w
}

// setWitness makes the witness of a run that has ended by itself, and shows it the DataPlanes that
// the run has seen. It returns whether dp has other credentials than those, and whether the API
// server is another than the run's.
func (p *plane) setWitness(r *run, connected bool, dp *v1alpha1.DataPlane) (changed change) {
	p.witness = newWitness(p.fleet.options.Remote)
	if connected {
		p.witness.server = r.cluster.String()
		changed.server = p.witness.compare(r.used).server // ConfigFor may return another since
		if r.seen != r.used {
			changed.server = p.witness.compare(r.seen).server || changed.server
		}
	}
	if dp != r.seen {
		last := p.witness.compare(dp)
		changed = change{last.credentials, last.server || changed.server}
	}
	return changed
}

func (p *plane) dropWitness() {
	if p.witness != nil {
		p.witness.close()
		p.witness = nil
	}
}

// compare returns whether dp has other credentials than the DataPlane that was compared last, or
// another API server than the first. Credentials that can't be used are no change; the next
// that can be used are. A panic of the user's functions counts as an error.
func (w *witness) compare(dp *v1alpha1.DataPlane) change {
	w.rotated = false
	made := w.cluster != nil
	err := recovered(func() (err error) {
		if made {
			return w.cluster.Update(dp)
		}
		w.cluster, err = remote.NewCluster(dp, w.options)
		return err
	})
	w.failed = err != nil && !errors.Is(err, remote.ErrServerChanged)
	if !made {
		moved := err == nil && w.server != "" && w.cluster.String() != w.server
		return change{credentials: err == nil, server: moved}
	}
	return change{w.rotated, errors.Is(err, remote.ErrServerChanged)}
}

func (w *witness) close() {
	if w.cluster != nil {
		w.cluster.Abort()
	}
}
