# Made from the table of commands: go test ./cmd/lls -update
_lls() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} cmd= i words=
    COMPREPLY=()
    for ((i = 1; i < COMP_CWORD; i++)); do
        if [[ ${COMP_WORDS[i]} != -* ]]; then cmd=${COMP_WORDS[i]}; break; fi
    done
    case $cmd:$prev in
    create:--size) return ;;
    create:--fs) COMPREPLY=($(compgen -W "ext4 xfs" -- "$cur")); return ;;
    create:--pool) return ;;
    create:--mount) COMPREPLY=($(compgen -f -- "$cur")); return ;;
    snapshot:--mount) COMPREPLY=($(compgen -f -- "$cur")); return ;;
    set:--visibility) COMPREPLY=($(compgen -W "visible hidden" -- "$cur")); return ;;
    set:--access) COMPREPLY=($(compgen -W "rw ro none" -- "$cur")); return ;;
    set:--grow-to) return ;;
    keep:--for) return ;;
    undelete:--as) return ;;
    esac
    case $cmd in
    list) words="--all --json --help" ;;
    info) words="--json --help" ;;
    usage) words="--json --help" ;;
    watch) words="--json --help" ;;
    create) words="--size --fs --pool --visible --hidden --mount --json --help" ;;
    snapshot) words="--visible --hidden --mount --ro --json --help" ;;
    mount) words="--ro --save --json --help" ;;
    umount) words="--forget --json --help" ;;
    replay) words="--json --help" ;;
    resize) words="--json --help" ;;
    set) words="--visibility --access --grow-to --json --help" ;;
    trim) words="--json --help" ;;
    keep) words="--for --json --help" ;;
    refresh) words="--yes --json --help" ;;
    delete) words="--json --help" ;;
    undelete) words="--as --json --help" ;;
    purge) words="--yes --json --help" ;;
    "") words="list info usage watch create snapshot mount umount replay resize set trim keep refresh delete undelete purge help --help --version" ;;
    esac
    if [[ $cur != -* ]]; then
        case $cmd in
        info|snapshot|mount|umount|resize|set|keep|refresh|delete|undelete|purge)
            words=$(lls list --all --json 2>/dev/null | sed -n 's/^    "name": "\([A-Za-z0-9_.+#/-]*\)",$/\1/p') ;;
        esac
    fi
    COMPREPLY=($(compgen -W "$words" -- "$cur"))
    if [[ ${#COMPREPLY[@]} == 0 && $cur == [./]* ]]; then COMPREPLY=($(compgen -f -- "$cur")); fi
}
complete -F _lls lls
