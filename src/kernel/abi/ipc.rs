//! System V IPC (the `…64` structures), POSIX message queues and asynchronous I/O.

use super::guest_structs;

guest_structs! {
    /// `struct compat_ipc64_perm`.
    struct IpcPerm: 36 {
        key: i32,
        uid: u32,
        gid: u32,
        cuid: u32,
        cgid: u32,
        mode: u16,
        pad1: u16,
        seq: u16,
        pad2: u16,
        unused: [u32; 2],
    }

    /// `struct compat_semid64_ds`.
    struct Semid: 64 {
        perm: IpcPerm,
        otime: u32,
        otime_high: u32,
        ctime: u32,
        ctime_high: u32,
        nsems: u32,
        unused: [u32; 2],
    }

    /// `struct compat_shmid64_ds`.
    struct Shmid: 84 {
        perm: IpcPerm,
        segsz: u32,
        atime: u32,
        atime_high: u32,
        dtime: u32,
        dtime_high: u32,
        ctime: u32,
        ctime_high: u32,
        cpid: i32,
        lpid: i32,
        nattch: u32,
        unused: [u32; 2],
    }

    /// `struct compat_msqid64_ds`.
    struct Msqid: 88 {
        perm: IpcPerm,
        stime: u32,
        stime_high: u32,
        rtime: u32,
        rtime_high: u32,
        ctime: u32,
        ctime_high: u32,
        cbytes: u32,
        qnum: u32,
        qbytes: u32,
        lspid: i32,
        lrpid: i32,
        unused: [u32; 2],
    }

    /// `struct compat_ipc_perm`.
    struct OldIpcPerm: 16 {
        key: i32,
        uid: u16,
        gid: u16,
        cuid: u16,
        cgid: u16,
        mode: u16,
        seq: u16,
    }

    /// `struct compat_semid_ds`.
    struct OldSemid: 44 {
        perm: OldIpcPerm,
        otime: i32,
        ctime: i32,
        base: u32,
        sem_pending: u32,
        sem_pending_last: u32,
        undo: u32,
        nsems: u16,
        pad: u16,
    }

    /// `struct compat_shmid_ds`.
    struct OldShmid: 48 {
        perm: OldIpcPerm,
        segsz: i32,
        atime: i32,
        dtime: i32,
        ctime: i32,
        cpid: u16,
        lpid: u16,
        nattch: u16,
        unused: u16,
        unused2: u32,
        unused3: u32,
    }

    /// `struct compat_msqid_ds`.
    struct OldMsqid: 56 {
        perm: OldIpcPerm,
        first: u32,
        last: u32,
        stime: i32,
        rtime: i32,
        ctime: i32,
        lcbytes: u32,
        lqbytes: u32,
        cbytes: u16,
        qnum: u16,
        qbytes: u16,
        lspid: u16,
        lrpid: u16,
        pad: u16,
    }

    /// `struct shminfo`.
    struct OldShminfo: 20 {
        shmmax: u32,
        shmmin: u32,
        shmmni: u32,
        shmseg: u32,
        shmall: u32,
    }

    /// `struct compat_shminfo64`.
    struct Shminfo: 36 {
        shmmax: u32,
        shmmin: u32,
        shmmni: u32,
        shmseg: u32,
        shmall: u32,
        unused: [u32; 4],
    }

    /// `struct compat_shm_info`.
    struct ShmUsage: 24 {
        used_ids: i32,
        shm_tot: u32,
        shm_rss: u32,
        shm_swp: u32,
        swap_attempts: u32,
        swap_successes: u32,
    }

    /// `struct seminfo`.
    struct Seminfo: 40 {
        words: [i32; 10],
    }

    /// `struct msginfo`.
    struct Msginfo: 32 {
        words: [i32; 8],
    }

    /// `struct sembuf`.
    struct Sembuf: 6 {
        num: u16,
        op: i16,
        flg: i16,
    }

    /// What `ipc(MSGRCV)` of old has in place of five arguments.
    struct MsgrcvKludge: 8 {
        msgp: u32,
        msgtyp: i32,
    }

    /// `struct compat_mq_attr`.
    struct MqAttr: 32 {
        flags: i32,
        maxmsg: i32,
        msgsize: i32,
        curmsgs: i32,
        reserved: [i32; 4],
    }

    /// `struct iocb`.
    struct Iocb: 64 {
        data: u64,
        key: u32,
        rw_flags: u32,
        opcode: u16,
        reqprio: i16,
        fildes: u32,
        buf: u64,
        nbytes: u64,
        offset: i64,
        reserved: u64,
        flags: u32,
        resfd: u32,
    }

    /// `struct io_event`.
    struct IoEvent: 32 {
        data: u64,
        obj: u64,
        res: i64,
        res2: i64,
    }
}
