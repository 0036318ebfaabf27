# A workspace on this machine: a process in a sandbox, with a home of its own.
#
# Nothing is downloaded: neither Terraform nor Docker is needed.

terraform {
  required_providers {
    coder = {
      source = "coder/coder"
    }
  }
}

data "coder_provisioner" "me" {}
data "coder_workspace" "me" {}
data "coder_workspace_owner" "me" {}

data "coder_parameter" "greeting" {
  name         = "greeting"
  display_name = "Greeting"
  description  = "Shown when a terminal opens."
  type         = "string"
  default      = "Welcome to your workspace."
  mutable      = true
  order        = 1

  validation {
    regex = "^.{0,200}$"
    error = "A greeting has at most 200 characters."
  }
}

data "coder_parameter" "prompt" {
  name         = "prompt"
  display_name = "Shell prompt"
  description  = "How the prompt of the shell looks."
  type         = "string"
  default      = "short"
  mutable      = true
  order        = 2

  option {
    name  = "Short: workspace and folder"
    value = "short"
  }
  option {
    name  = "Long: user, workspace and full path"
    value = "long"
  }
}

data "coder_parameter" "dotfiles" {
  name         = "dotfiles"
  display_name = "Dotfiles repository"
  description  = "Address of a Git repository with your dotfiles; its install.sh is run. Empty: none."
  type         = "string"
  default      = ""
  mutable      = true
  order        = 3
}

locals {
  prompts = {
    short = "\\[\\e[1;34m\\]${data.coder_workspace.me.name}\\[\\e[0m\\]:\\W\\$ "
    long  = "\\[\\e[1;32m\\]${data.coder_workspace_owner.me.name}@${data.coder_workspace.me.name}\\[\\e[0m\\]:\\w\\$ "
  }
}

resource "coder_agent" "main" {
  os   = "linux"
  arch = data.coder_provisioner.me.arch

  env = {
    CODER_WORKSPACE_GREETING = data.coder_parameter.greeting.value
    CODER_WORKSPACE_PROMPT   = local.prompts[data.coder_parameter.prompt.value]
    GIT_AUTHOR_NAME          = coalesce(data.coder_workspace_owner.me.full_name, data.coder_workspace_owner.me.name)
    GIT_AUTHOR_EMAIL         = data.coder_workspace_owner.me.email
  }

  startup_script = <<-EOT
    #!/bin/sh
    set -eu
    [ -e "$HOME/.bashrc" ] || cp /etc/skel/.bashrc "$HOME/.bashrc" 2>/dev/null || : > "$HOME/.bashrc"
    [ -e "$HOME/.profile" ] || printf '%s\n' '[ -z "$BASH" ] || . "$HOME/.bashrc"' > "$HOME/.profile"
    if ! grep -q CODER_WORKSPACE_PROMPT "$HOME/.bashrc"; then
      cat >> "$HOME/.bashrc" <<'BASHRC'

    # From the template: greeting and prompt are parameters of the workspace.
    if [ -n "$PS1" ] && [ -n "$CODER_WORKSPACE_PROMPT" ]; then
      PS1=$CODER_WORKSPACE_PROMPT
      [ -z "$CODER_WORKSPACE_GREETING" ] || printf '%s\n' "$CODER_WORKSPACE_GREETING"
    fi
    BASHRC
    fi
  EOT

  metadata {
    key          = "cpu"
    display_name = "Load (1 min)"
    script       = "cut -d' ' -f1 /proc/loadavg"
    interval     = 10
    timeout      = 1
    order        = 1
  }
  metadata {
    key          = "memory"
    display_name = "Memory of the host"
    script       = "awk '/MemTotal/ {t=$2} /MemAvailable/ {a=$2} END {printf \"%.1f/%.1f GiB\", (t-a)/1048576, t/1048576}' /proc/meminfo"
    interval     = 10
    timeout      = 1
    order        = 2
  }
  metadata {
    key          = "home"
    display_name = "Home folder"
    script       = "du -sh \"$HOME\" 2>/dev/null | cut -f1"
    interval     = 60
    timeout      = 10
    order        = 3
  }
}

resource "coder_script" "dotfiles" {
  count        = data.coder_parameter.dotfiles.value != "" ? 1 : 0
  agent_id     = coder_agent.main.id
  display_name = "Dotfiles"
  icon         = "/icon/dotfiles.svg"
  run_on_start = true
  script       = <<-EOT
    #!/bin/sh
    set -eu
    [ -d "$HOME/.dotfiles" ] || git clone --depth 1 '${replace(data.coder_parameter.dotfiles.value, "'", "")}' "$HOME/.dotfiles"
    cd "$HOME/.dotfiles"
    [ ! -x install.sh ] || ./install.sh
  EOT
}

resource "coder_app" "monitor" {
  agent_id     = coder_agent.main.id
  slug         = "monitor"
  display_name = "Processes"
  icon         = "/icon/terminal.svg"
  command      = "top"
}

# The sandbox that runs the agent.  Its home folder stays when the workspace
# stops, and goes when the workspace is deleted.
resource "sandbox_process" "workspace" {
  count       = data.coder_workspace.me.start_count
  agent_token = coder_agent.main.token
}

resource "coder_metadata" "workspace" {
  count       = data.coder_workspace.me.start_count
  resource_id = sandbox_process.workspace[0].id
  icon        = "/icon/terminal.svg"

  item {
    key   = "isolation"
    value = "bubblewrap sandbox"
  }
}
