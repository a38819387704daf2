# The mesh as a helm_release of Terraform's provider for Helm, from the chart beside this file.
terraform {
  required_providers {
    helm = {
      source  = "hashicorp/helm"
      version = "~> 3.0"
    }
    kubernetes = {
      source  = "hashicorp/kubernetes"
      version = "~> 2.38"
    }
  }
}

variable "registry" {
  description = "Where the images are; empty: the container runtime's default registry"
  type        = string
  default     = ""
}

resource "kubernetes_namespace_v1" "heddle" {
  metadata {
    name = "heddle-system"
    labels = {
      "pod-security.kubernetes.io/enforce" = "restricted"
    }
  }
}

resource "helm_release" "heddle" {
  name      = "heddle"
  namespace = kubernetes_namespace_v1.heddle.metadata[0].name
  chart     = "${path.module}/../../chart/heddle"
  wait      = true

  values = [
    file("${path.module}/../../chart/heddle/values-ha.yaml"),
    yamlencode({
      image = { registry = var.registry }
    }),
  ]
}
