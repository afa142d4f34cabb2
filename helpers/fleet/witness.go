// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"errors"

	"k8s.io/apimachinery/pkg/types"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
)

// change says what differs between two connections.
type change struct{ credentials, server bool }

// witness says whether a change of a DataPlane changes its connection, or its API server, while
// no run has a Cluster, or before the Cluster of a run is updated. It is a Cluster that sends nothing, because only ConfigFor knows which
// fields count, and only a Cluster which of its results are the same.
type witness struct {
	options remote.Options
	cluster *remote.Cluster // nil while none can be made
	server  string          // names the one of the run, or is empty if that had none
	rotated bool
}

func newWitness(options remote.Options) *witness {
	w := &witness{options: options}
	w.options.OnRotate = func(types.NamespacedName) { w.rotated = true }
	return w
}

// setWitness makes the witness of a run that has ended by itself, which has seen what the run
// has. It returns what dp changes.
func (p *plane) setWitness(r *run, connected bool, dp *v1alpha1.DataPlane) (changed change) {
	p.witness = newWitness(p.fleet.options.Remote)
	if connected {
		p.witness.server = r.cluster.String()
		p.witness.compare(r.used)
		if r.seen != r.used {
			p.witness.compare(r.seen)
		}
	}
	if dp != r.seen {
		changed = p.witness.compare(dp)
	}
	return changed
}

func (p *plane) dropWitness() {
	if p.witness != nil {
		p.witness.close()
		p.witness = nil
	}
}

// compare returns whether a run for dp would have other credentials than for what was seen last, or
// another API server than for what was seen first. Credentials that can't be used are no change;
// any that can are one after those. A panic of the user's WrapTransport is an error, too.
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
