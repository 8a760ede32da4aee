#compdef lls-agent
# Made from the table of commands: go test ./cmd/lls-agent -update

_lls_agent_volumes() {
    local -a names
    names=(${(f)"$(lls-agent list --all --json 2>/dev/null | sed -n 's/^    "name": "\([A-Za-z0-9_.+#/-]*\)",$/\1/p')"})
    compadd -a names
}

_lls_agent() {
    local -a commands
    commands=(
        'init:make a pool; without flags, one in a file that is back at boot'
        'run:be the daemon; systemd does this'
        'reload:have the daemon read its configuration again'
        'status:show pools, numbers and problems'
        'containers:show the containers and whether LLS works in them'
        'list:show every volume'
        'info:show all there is to know about a volume, and who holds it'
        'usage:show what each container uses of its quota'
        'watch:show what happens to volumes, as it happens'
        'create:make a new, empty volume with a file system'
        'snapshot:make a writable snapshot of a volume; without NAME, a name is made from SOURCE and the date'
        'mount:mount a volume at a directory'
        'umount:unmount a volume everywhere, or one directory'
        'replay:mount now what the container'\''s /etc/fstab has of volumes'
        'resize:grow a volume and its file system, mounted or not'
        'set:say who sees a volume, how others may mount it, and how far it grows by itself'
        'trim:give the space of deleted files back to the pool, of a mounted volume or of all'
        'keep:keep volumes for a time, whatever the policy says'
        'refresh:put a new snapshot of its origin in a snapshot'\''s place, at the same mount points'
        'delete:move volumes to the trash'
        'undelete:bring volumes back from the trash'
        'purge:destroy volumes of the trash for ever'
        'give:hand every volume of one owner to another'
        'revoke:see who still has a device open raw that may not any more'
        config
        policy
        mail
    )
    if ((CURRENT == 2)); then
        _describe -t commands command commands
        return
    fi
    local cmd=$words[2]
    shift words
    ((CURRENT--))
    if [[ $cmd == (config|policy|mail) ]]; then
        if ((CURRENT == 2)); then
            case $cmd in
            config) commands=(
                'check:check a configuration without using it; the daemon need not run'
            ) ;;
            policy) commands=(
                'explain:see why a volume is kept or goes, and what would change that'
                'dry-run:see what would happen by itself'
            ) ;;
            mail) commands=(
                'test:send a test mail now, and see what the mail server says'
            ) ;;
            esac
            _describe -t commands command commands
            return
        fi
        cmd="$cmd $words[2]"
        shift words
        ((CURRENT--))
    fi
    case $cmd in
    init)
        _arguments \
            '--device[on this empty disk or partition]:DEVICE:_files' \
            '--vg[in this volume group; with --device or --loop, the name of the new one]:VG:' \
            '--pool[take this thin pool of the group]:POOL:' \
            '--loop[in a file of this size; without flags, of 80 % of what is free where /var/lib/lls is]:SIZE:' \
            '--yes[do not ask]' \
            '--json[answer in JSON; errors too, on standard error]' \
            '--help[show this text]' ;;
    run)
        _arguments \
            '--config[instead of /etc/lls/lls.toml]:FILE:_files' \
            '--json[answer in JSON; errors too, on standard error]' \
            '--help[show this text]' ;;
    reload)
        _arguments \
            '--json[answer in JSON; errors too, on standard error]' \
            '--help[show this text]' ;;
    "config check")
        _arguments \
            '--json[answer in JSON; errors too, on standard error]' \
            '--help[show this text]' '*: :' ;;
    "policy explain")
        _arguments \
            '--json[answer in JSON; errors too, on standard error]' \
            '--help[show this text]' \
            '1:NAME:_lls_agent_volumes' '*: :' ;;
    "policy dry-run")
        _arguments \
            '--json[answer in JSON; errors too, on standard error]' \
            '--help[show this text]' ;;
    "mail test")
        _arguments \
            '--json[answer in JSON; errors too, on standard error]' \
            '--help[show this text]' ;;
    status)
        _arguments \
            '--json[answer in JSON; errors too, on standard error]' \
            '--help[show this text]' ;;
    containers)
        _arguments \
            '--json[answer in JSON; errors too, on standard error]' \
            '--help[show this text]' ;;
    list)
        _arguments \
            '--all[those in the trash, too]' \
            '--json[answer in JSON; errors too, on standard error]' \
            '--help[show this text]' ;;
    info)
        _arguments \
            '--json[answer in JSON; errors too, on standard error]' \
            '--help[show this text]' \
            '1:NAME:_lls_agent_volumes' '*: :' ;;
    usage)
        _arguments \
            '--json[answer in JSON; errors too, on standard error]' \
            '--help[show this text]' '*: :' ;;
    watch)
        _arguments \
            '--json[answer in JSON; errors too, on standard error]' \
            '--help[show this text]' ;;
    create)
        _arguments \
            '--size[how big - 500M, 100G, 2T (powers of 1024)]:SIZE:' \
            '--fs[its file system (what default_fs in lls.toml says, ext4 if nothing)]:TYPE:(ext4 xfs)' \
            '--pool[the pool to take it from]:POOL:' \
            '--owner[make it this container'\''s instead of the host'\''s]:CONTAINER:' \
            '--visible[let every container see it, and snapshot it]' \
            '--hidden[let no other container see it]' \
            '--json[answer in JSON; errors too, on standard error]' \
            '--help[show this text]' '*: :' ;;
    snapshot)
        _arguments \
            '--owner[make it this container'\''s instead of the host'\''s]:CONTAINER:' \
            '--visible[let every container see it, and snapshot it]' \
            '--hidden[let no other container see it]' \
            '--ro[make it read-only for ever, itself included]' \
            '--json[answer in JSON; errors too, on standard error]' \
            '--help[show this text]' \
            '1:NAME:_lls_agent_volumes' '*: :' ;;
    mount)
        _arguments \
            '--ro[read-only]' \
            '--container[in this container instead of on the host]:CONTAINER:' \
            '--json[answer in JSON; errors too, on standard error]' \
            '--help[show this text]' \
            '1:NAME:_lls_agent_volumes' '2:PATH:_files -/' ;;
    umount)
        _arguments \
            '--container[in this container instead of on the host]:CONTAINER:' \
            '--json[answer in JSON; errors too, on standard error]' \
            '--help[show this text]' \
            '1:NAME:_lls_agent_volumes' '2:PATH:_files -/' ;;
    replay)
        _arguments \
            '--json[answer in JSON; errors too, on standard error]' \
            '--help[show this text]' '*: :' ;;
    resize)
        _arguments \
            '--json[answer in JSON; errors too, on standard error]' \
            '--help[show this text]' \
            '1:NAME:_lls_agent_volumes' '*: :' ;;
    set)
        _arguments \
            '--visibility[whether others see it, and may snapshot it]:WHO:(visible hidden)' \
            '--access[how others may mount it while it is visible]:HOW:(rw ro none)' \
            '--grow-to[have it grow by itself, up to this size, when it fills; none - not any more]:MAX:' \
            '--json[answer in JSON; errors too, on standard error]' \
            '--help[show this text]' \
            '1:NAME:_lls_agent_volumes' '*: :' ;;
    trim)
        _arguments \
            '--json[answer in JSON; errors too, on standard error]' \
            '--help[show this text]' '*: :' ;;
    keep)
        _arguments \
            '--for[such as 12h or 7d; never - without an end; 0 - no longer]:TIME:' \
            '--json[answer in JSON; errors too, on standard error]' \
            '--help[show this text]' \
            '*:NAME:_lls_agent_volumes' ;;
    refresh)
        _arguments \
            '--yes[do not ask]' \
            '--json[answer in JSON; errors too, on standard error]' \
            '--help[show this text]' \
            '1:NAME:_lls_agent_volumes' '*: :' ;;
    delete)
        _arguments \
            '--json[answer in JSON; errors too, on standard error]' \
            '--help[show this text]' \
            '*:NAME:_lls_agent_volumes' ;;
    undelete)
        _arguments \
            '--as[under another name; for one volume only]:NEW:' \
            '--json[answer in JSON; errors too, on standard error]' \
            '--help[show this text]' \
            '*:NAME:_lls_agent_volumes' ;;
    purge)
        _arguments \
            '--yes[do not ask]' \
            '--json[answer in JSON; errors too, on standard error]' \
            '--help[show this text]' \
            '*:NAME:_lls_agent_volumes' ;;
    give)
        _arguments \
            '--json[answer in JSON; errors too, on standard error]' \
            '--help[show this text]' '*: :' ;;
    revoke)
        _arguments \
            '--force[have them get errors from now on]' \
            '--json[answer in JSON; errors too, on standard error]' \
            '--help[show this text]' \
            '1:NAME:_lls_agent_volumes' '*: :' ;;
    esac
}

_lls_agent "$@"
