/*
 * The registry: the durable list of an application's tables, in one file per application, because a
 * standby can't write tables. <data directory>/siphon/<application>.registry holds a line
 *
 *   siphon-registry 2 <XXH3-64 of the rest, 16 hex digits>
 *
 * and a JSON document that people can read. A file is replaced as a whole (write, fsync, rename, fsync of
 * the directory). One that can't be read is an error that names it and is never replaced by a guess.
 *
 * A long document is not written for each change of a table. Its first line is
 *
 *   siphon-registry 3 <XXH3-64 of the document, 16 hex digits> <bytes of the document>
 *
 * and what was changed since is appended, a line for each change, of one or of many tables:
 *
 *   <XXH3-64 of the rest of the line, 16 hex digits> <JSON: all but the lists, and what is different in these>
 *
 * It counts once it is synced. A last line that was not written to its end, as in a crash or a copy of a running server's
 * files, is as if it were not there. When the lines are as long as the document, the file is replaced.
 */
#ifndef SIPHON_REGISTRY_H
#define SIPHON_REGISTRY_H

#include "server/shmem.h"
#include "table_phase.h"

constexpr int kMaxPartitions = 1024;
constexpr int kMaxSnapshotWorkers = 32;

/* A name that a table had up to the transaction with this commit LSN, inclusive. */
struct RegistryName
{
	XLogRecPtr end_lsn;
	char schema[NAMEDATALEN];
	char name[NAMEDATALEN];
};

/* Where a table was renamed more often, what is decoded a second time has lost sight of the first times. */
constexpr int kMaxFormerNames = 16;

/* What rows have in a column that was added with a default and the catalogs have no more: see missing_values.h. */
struct RegistryValue
{
	int attnum;
	Oid type;
	char *field; /* existing_rows of siphon.v1.Column, as the wire has it, in hexadecimal */
};

struct RegistryTable
{
	Oid relid;
	char schema[NAMEDATALEN]; /* as it is called at the last place that was decoded, or when its last snapshot began */
	char name[NAMEDATALEN];
	List *former_names; /* of RegistryName *: since then, the newest last, kMaxFormerNames at most */
	List *kept_values; /* of RegistryValue *: since the generation began */
	int partitions;
	List *exclude_columns;    /* of char *: what has one of these names is not published, */
	List *exclude_attributes; /* of int: nor what had one when the table was added, should it be renamed */
	bool followed;            /* it is here because a publication has it: see publication_follower.h */
	List
		*only_attributes; /* of int: if there are any, they are what is published, and exclude_columns is for display */
	XLogRecPtr start_lsn;  /* transactions with this commit LSN or a later one are published */
	XLogRecPtr end_lsn;    /* it leaves: those with this commit LSN or a later one are not; or 0 */
	bool dropped;          /* the one before that dropped it: another table may have its OID from then on */
	TablePhase phase;
	uint32 generation;    /* what is published carries it; 0: nothing was yet */
	bool rows;            /* existing rows are published, not changes alone */
	int workers;          /* how many scan them, as asked for */
	bool paused;          /* its snapshot is not to begin */
	int failures;         /* of its snapshot, in a row */
	TimestampTz retry_at; /* do not begin again before */
	char reason[256];     /* of the last failure, or why it needs a resync */
};

/*
 * Is it taken off the list once all before `end_lsn` is acknowledged? One that was dropped stays, so that views show
 * it, but where a publication says what is in the list.
 */
static inline bool
is_table_leaving(const RegistryTable *table)
{
	return table->end_lsn != InvalidXLogRecPtr && (table->followed || !table->dropped);
}

/* Returns true if the stream no longer matches the table's rows, or has none of its changes: it needs a resync. */
static inline bool
is_table_broken(const RegistryTable *table)
{
	return table->phase == TablePhase::Stopped || (table->phase == TablePhase::Streaming && table->reason[0] != '\0');
}

/* More decoders than these do not begin and end before anything of theirs is published. */
constexpr int kMaxRingIds = 32;

/*
 * Sets the phase of a table, and of one that is new to the list. The only ones to do so, but for reading a registry. A
 * transition that is not in kTablePhaseTransitions is a bug: then the table keeps its phase, or waits if it is new.
 */
extern void table_set_phase(RegistryTable *table, TablePhase phase);
extern void table_set_first_phase(RegistryTable *table, TablePhase phase);

/* A table, or a name of one, that is not published any more, kept until the publisher has taken notice. */
struct RegistryRemoved
{
	Oid relid;
	char schema[NAMEDATALEN]; /* as it was called last */
	char name[NAMEDATALEN];
	uint32 generation;
};

/* A table that a publication has and that can't be published, kept so that views show it. */
struct RegistryLeftOut
{
	Oid relid;
	char schema[NAMEDATALEN];
	char name[NAMEDATALEN];
	char reason[256];
};

struct Registry
{
	/* Of what registry_get() returns: with the same number, a table in the same place of memory is the same. Else 0. */
	uint64 instance;
	bool partial; /* it has one table of its tables, see registry_begin_change_of() */
	char application[kApplicationLength];
	Oid database;
	char database_name[NAMEDATALEN];
	char slot[NAMEDATALEN];
	uint32 generation;   /* the last that a table was given */
	TimeLineID timeline; /* on which the file was written last, */
	uint64 version;      /* and its version: counts changes, from a moment's time on, see is_registry_newer() */

	/*
	 * What is published is one history as long as nothing is missing in it; with the next history all tables get a
	 * resync. Random, so that no two are taken for one another.
	 */
	uint64 history;
	bool acknowledged;            /* JetStream has something of this history */
	bool take_over;               /* it is to take the stream over from another owner; until it is acknowledged */
	char given_up[kReasonLength]; /* why the stream was ended: what the slot has, if there is one, is not its
									 continuation */
	bool stopped;                 /* no decoder is to run, see siphon_stop_application() */
	bool failover;                /* the slot is synchronized to standbys, and the application follows it */
	/* Of uint64 *: the rings that the history's decoders had, the newest last, kMaxRingIds at most. */
	List *ring_ids;
	List *tables;  /* of RegistryTable * */
	List *removed; /* of RegistryRemoved * */

	char publication[NAMEDATALEN];     /* whose tables the application follows, or empty; see publication_follower.h */
	char follow_reason[kReasonLength]; /* why it can't, for now */
	List *left_out;                    /* of RegistryLeftOut * */
};

/* True if `name` may name an application: [a-z0-9_]+ tokens with single dots between, not too long. */
extern bool is_valid_application_name(const char *name);

/* Reads an application's file into the current memory context. NULL if there is none. ERROR if it is damaged. */
extern Registry *registry_read(const char *application);
/* The same, not to be changed; it is gone when this process reads a registry next. */
extern const Registry *registry_get(const char *application);

/* How its database is called now; how it was, if it was dropped. In a transaction. */
extern const char *registry_get_database_name(const Registry *registry);
/* Counts changes of an application's file; it may count those of another one, too. */
extern pg_atomic_uint64 *registry_get_write_counter(const char *application);
/*
 * Changes of an application's files; nobody takes two of these locks, as others' may be the same one. Waiting for it can't
 * be interrupted, so nobody keeps it but for as long as the files take.
 */
extern LWLock *registry_lock(const char *application);

/* Replaces the file. The caller holds registry_lock() exclusively. */
extern void registry_write(Registry *registry);

/*
 * Between these two nobody else changes a registry: the first reads the file, the second writes it. NULL, and nothing
 * to end, if there is none. An error, or the process' end, in between leaves the file as it was.
 */
extern Registry *registry_begin_change(const char *application);
/* The same, but of its tables it has this one alone, if there is one: a change of that does not take a copy of all. */
extern Registry *registry_begin_change_of(const char *application, Oid relid);
extern void registry_end_change(Registry *registry);
/* In place of the second: nothing has changed. */
extern void registry_cancel_change(const Registry *registry);
/*
 * Calls an SQL function that changes registries. If it fails, locks are released before the error goes to the client, who
 * may not read it: the transaction's end, where PostgreSQL does it, comes after that.
 */
extern Datum registry_call(PGFunction function, FunctionCallInfo fcinfo);

/*
 * The next generation for one of its tables: greater than every one before, also when the table was removed, or the
 * application dropped, and added again meanwhile: what is in JetStream outlives the registry.
 */
extern uint32 registry_next_generation(Registry *registry);

/*
 * Of two copies of one application's registry, on a server and on its former primary: was `a` changed last? That is the
 * one which was written on the later timeline. An application that was dropped and made again counts from a later time.
 */
extern bool is_registry_newer(const Registry *a, const Registry *b);
/* The first version of a new application. */
extern uint64 registry_choose_first_version(void);

/* What makes a registry another one. Tables keep their order, and new ones come last. */
struct RegistryChange
{
	const Registry *now; /* what is to be taken of it as it is: all but the lists */
	List *gone;          /* OIDs */
	List *tables;        /* of RegistryTable *: those that are new, or different */
	bool removed;        /* these lists of it are different */
	bool left_out;
};

/* See registry_change.cpp. The result refers to `now`. */
extern RegistryChange registry_compare(const Registry *before, const Registry *now);
/*
 * Returns how many tables are not used any more. What the change has is used, and must live as long as the registry.
 * *places: where each table is, made if it is NULL, and kept for the next change.
 */
extern int registry_apply(Registry *registry, const RegistryChange *change, HTAB **places);
extern bool is_same_name(const RegistryName *a, const RegistryName *b);
/* A copy of a list of RegistryValue *, in the current memory context. */
extern List *copy_kept_values(const List *values);
/* For lists_are_equal(): of lists of RegistryName * and of RegistryValue *. */
extern bool is_same_former_name(const void *a, const void *b);
extern bool is_same_kept_value(const void *a, const void *b);
/* In the current memory context, all of it; or with this table alone. */
extern Registry *registry_copy(const Registry *registry, Oid relid);

/*
 * The JSON document, and a registry from one; and the same for a change, of which the registry takes all but the tables
 * at once. ERROR if it is damaged: `path` says in what. See registry_json.cpp.
 */
extern char *registry_to_json(const Registry *registry);
extern Registry *registry_from_json(const char *path, const char *application, char *json);
extern char *registry_change_to_json(const RegistryChange *change);
extern RegistryChange registry_change_from_json(const char *path, Registry *registry, char *json);
/* As each table that has, or had, the name has it there. */
extern void registry_names_to_json(StringInfo json, const char *schema, const char *name);
/* That error. */
[[noreturn]] extern void registry_raise_damaged(const char *path, const char *what);

/* The name of an application's slot; `out` has NAMEDATALEN bytes. */
extern void registry_get_slot_name(char *out, const char *application);

/*
 * Begins a new history: also of an application that was given up. What was wished for the one before, that it takes a
 * stream over, does not hold for it.
 */
extern void registry_begin_history(Registry *registry, bool take_over);

/* Removes the file; a missing one is fine. The caller holds registry_lock() exclusively. */
extern void registry_remove(const char *application);

/* Identifiers (char *) of all applications that have a file. */
extern List *registry_list_applications(void);

/*
 * Why the application's slot can't be used, or NULL if it can. One of another plugin or database under its name counts
 * as none.
 */
extern const char *registry_get_slot_problem(const Registry *registry, bool *exists);

extern RegistryTable *registry_find_table(const Registry *registry, Oid relid);

/* For many to be found: the registry's tables by OID, in the current memory context; and one of them, or NULL. */
extern HTAB *index_tables_by_oid(const Registry *registry);
extern RegistryTable *find_table_by_oid(HTAB *tables, Oid relid);

/* From this commit on the table is called so. */
extern void registry_rename(RegistryTable *table, const char *schema, const char *name, XLogRecPtr commit_lsn);

/* True if another table has the name that the table has in the registry, or had it behind this place. */
extern bool registry_has_namesake(const Registry *registry, const RegistryTable *table, XLogRecPtr behind);

/* Nothing more comes under the name that the table has in the registry: what the publisher holds under it can go. */
extern void registry_forget_name(Registry *registry, const RegistryTable *table);
/* The same for those that it had: should their end not be acknowledged yet, it is not decoded a second time. */
extern void registry_forget_former_names(Registry *registry, RegistryTable *table);

#endif
