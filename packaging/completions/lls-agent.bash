# Made from the table of commands: go test ./cmd/lls-agent -update
_lls_agent() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} cmd= i words=
    COMPREPLY=()
    for ((i = 1; i < COMP_CWORD; i++)); do
        if [[ ${COMP_WORDS[i]} != -* ]]; then cmd=$cmd${cmd:+ }${COMP_WORDS[i]}; [[ $cmd == @(config|policy|mail) ]] && continue; break; fi
    done
    case $cmd:$prev in
    init:--device) COMPREPLY=($(compgen -f -- "$cur")); return ;;
    init:--vg) return ;;
    init:--pool) return ;;
    init:--loop) return ;;
    run:--config) COMPREPLY=($(compgen -f -- "$cur")); return ;;
    create:--size) return ;;
    create:--fs) COMPREPLY=($(compgen -W "ext4 xfs" -- "$cur")); return ;;
    create:--pool) return ;;
    create:--owner) return ;;
    snapshot:--owner) return ;;
    mount:--container) return ;;
    umount:--container) return ;;
    set:--visibility) COMPREPLY=($(compgen -W "visible hidden" -- "$cur")); return ;;
    set:--access) COMPREPLY=($(compgen -W "rw ro none" -- "$cur")); return ;;
    set:--grow-to) return ;;
    keep:--for) return ;;
    undelete:--as) return ;;
    esac
    case $cmd in
    init) words="--device --vg --pool --loop --yes --json --help" ;;
    run) words="--config --json --help" ;;
    reload) words="--json --help" ;;
    "config check") words="--json --help" ;;
    "policy explain") words="--json --help" ;;
    "policy dry-run") words="--json --help" ;;
    "mail test") words="--json --help" ;;
    status) words="--json --help" ;;
    containers) words="--json --help" ;;
    list) words="--all --json --help" ;;
    info) words="--json --help" ;;
    usage) words="--json --help" ;;
    watch) words="--json --help" ;;
    create) words="--size --fs --pool --owner --visible --hidden --json --help" ;;
    snapshot) words="--owner --visible --hidden --ro --json --help" ;;
    mount) words="--ro --container --json --help" ;;
    umount) words="--container --json --help" ;;
    replay) words="--json --help" ;;
    resize) words="--json --help" ;;
    set) words="--visibility --access --grow-to --json --help" ;;
    trim) words="--json --help" ;;
    keep) words="--for --json --help" ;;
    refresh) words="--yes --json --help" ;;
    delete) words="--json --help" ;;
    undelete) words="--as --json --help" ;;
    purge) words="--yes --json --help" ;;
    give) words="--json --help" ;;
    revoke) words="--force --json --help" ;;
    config) words="check" ;;
    policy) words="explain dry-run" ;;
    mail) words="test" ;;
    "") words="init run reload config policy mail status containers list info usage watch create snapshot mount umount replay resize set trim keep refresh delete undelete purge give revoke help --help --version" ;;
    esac
    if [[ $cur != -* ]]; then
        case $cmd in
        "policy explain"|info|snapshot|mount|umount|resize|set|keep|refresh|delete|undelete|purge|revoke)
            words=$(lls-agent list --all --json 2>/dev/null | sed -n 's/^    "name": "\([A-Za-z0-9_.+#/-]*\)",$/\1/p') ;;
        esac
    fi
    COMPREPLY=($(compgen -W "$words" -- "$cur"))
    if [[ ${#COMPREPLY[@]} == 0 && $cur == [./]* ]]; then COMPREPLY=($(compgen -f -- "$cur")); fi
}
complete -F _lls_agent lls-agent
