package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"
)

// The parts of the OCI image format, by the names of its specification.
type (
	descriptor struct {
		MediaType   string            `json:"mediaType"`
		Digest      string            `json:"digest"`
		Size        int               `json:"size"`
		Platform    *platform         `json:"platform,omitempty"`
		Annotations map[string]string `json:"annotations,omitempty"`
	}
	platform struct {
		Architecture string `json:"architecture"`
		OS           string `json:"os"`
	}
	manifest struct {
		SchemaVersion int          `json:"schemaVersion"`
		MediaType     string       `json:"mediaType"`
		Config        *descriptor  `json:"config,omitempty"`
		Layers        []descriptor `json:"layers,omitempty"`
		Manifests     []descriptor `json:"manifests,omitempty"`
	}
	config struct {
		platform
		Created time.Time `json:"created"`
		Config  struct {
			User       string            `json:"User"`
			Entrypoint []string          `json:"Entrypoint"`
			WorkingDir string            `json:"WorkingDir"`
			Labels     map[string]string `json:"Labels"`
		} `json:"config"`
		RootFS struct {
			Type    string   `json:"type"`
			DiffIDs []string `json:"diff_ids"`
		} `json:"rootfs"`
	}
)

const (
	typeIndex    = "application/vnd.oci.image.index.v1+json"
	typeManifest = "application/vnd.oci.image.manifest.v1+json"
	typeConfig   = "application/vnd.oci.image.config.v1+json"
	typeLayer    = "application/vnd.oci.image.layer.v1.tar"

	// nobody owns no file of the image, as in deploy/Dockerfile.
	nobody = "65532:65532"
)

// layout is an image as a directory of blobs, each named by its hash.
type layout struct {
	packer
	written map[string]bool
}

// image writes an OCI layout of an image for several platforms: a static binary, run as
// nobody, and a place for its temporary files. It has no shell, no packages, and no
// authorities' certificates: those are of a machine, and are mounted.
func image(out io.Writer, at time.Time, name, version string, binaries []string) error {
	l := layout{packer{tar.NewWriter(out), at}, map[string]bool{}}
	index := manifest{SchemaVersion: 2, MediaType: typeIndex}
	for _, arg := range binaries {
		of, binary, ok := strings.Cut(arg, "=")
		system, architecture, slash := strings.Cut(of, "/")
		if !ok || !slash {
			return fmt.Errorf("%s is not OS/ARCH=BINARY", arg)
		}
		content, err := os.ReadFile(binary)
		if err != nil {
			return err
		}
		m, err := l.one(platform{architecture, system}, name, version, content)
		if err != nil {
			return err
		}
		index.Manifests = append(index.Manifests, m)
	}
	inner, err := l.blob(typeIndex, index)
	if err != nil {
		return err
	}
	inner.Annotations = map[string]string{"org.opencontainers.image.ref.name": version}
	return l.end(manifest{SchemaVersion: 2, MediaType: typeIndex, Manifests: []descriptor{inner}})
}

// one writes the image of one platform.
func (l *layout) one(p platform, name, version string, binary []byte) (descriptor, error) {
	var layer bytes.Buffer
	files := packer{tar.NewWriter(&layer), l.at}
	err := files.directory("tmp", 0o1777)
	if err == nil {
		err = files.file(name, 0o755, binary)
	}
	if err == nil {
		err = files.Close()
	}
	if err != nil {
		return descriptor{}, err
	}
	content, err := l.bytes(typeLayer, layer.Bytes())
	if err != nil {
		return descriptor{}, err
	}
	c := config{platform: p, Created: l.at}
	c.Config.User, c.Config.Entrypoint, c.Config.WorkingDir = nobody, []string{"/" + name}, "/"
	c.Config.Labels = map[string]string{
		"org.opencontainers.image.title": name, "org.opencontainers.image.version": version, "org.opencontainers.image.licenses": "MIT",
	}
	c.RootFS.Type, c.RootFS.DiffIDs = "layers", []string{content.Digest}
	described, err := l.blob(typeConfig, c)
	if err != nil {
		return descriptor{}, err
	}
	m, err := l.blob(typeManifest, manifest{SchemaVersion: 2, MediaType: typeManifest, Config: &described, Layers: []descriptor{content}})
	m.Platform = &p
	return m, err
}

// blob writes what is described as JSON.
func (l *layout) blob(mediaType string, v any) (descriptor, error) {
	content, err := json.Marshal(v)
	if err != nil {
		return descriptor{}, err
	}
	return l.bytes(mediaType, content)
}

func (l *layout) bytes(mediaType string, content []byte) (descriptor, error) {
	sum := sha256.Sum256(content)
	hash := hex.EncodeToString(sum[:])
	d := descriptor{MediaType: mediaType, Digest: "sha256:" + hash, Size: len(content)}
	if l.written[hash] {
		return d, nil
	}
	l.written[hash] = true
	return d, l.file("blobs/sha256/"+hash, 0o644, slices.Clone(content))
}

func (l *layout) end(index manifest) error {
	content, err := json.Marshal(index)
	if err == nil {
		err = l.file("index.json", 0o644, content)
	}
	if err == nil {
		err = l.file("oci-layout", 0o644, []byte(`{"imageLayoutVersion":"1.0.0"}`))
	}
	if err == nil {
		err = l.Close()
	}
	return err
}
